/** Events told as lines of the log. */

import { formatBytes, formatCount, formatValue } from "../format/number";
import type {
  CheckpointSaved,
  CommandChanged,
  EvaluationFinished,
  RecordsDropped,
} from "../wire/types";
import type { LogItem } from "./log";

const INFO = 20;
const WARNING = 30;

export function commandMark(event: CommandChanged): LogItem {
  const { id, time, run, step, author, command } = event;
  const wasRefused = event.status === "refused";
  return {
    key: `command ${id}`,
    kind: "command",
    time,
    run,
    step,
    level: wasRefused ? WARNING : INFO,
    source: author,
    text: `${command.kind} ${event.status}${outcomeText(event)}`,
  };
}

function outcomeText({ outcome }: CommandChanged): string {
  if (!outcome) return "";
  const text = outcome.kind === "refused" ? outcome.reason : (outcome.message ?? "");
  return text === "" ? "" : `: ${text}`;
}

export function evaluationMark(event: EvaluationFinished): LogItem {
  const { time, run, step, split, samples, values } = event;
  const means = Object.entries(values).map(([name, value]) => `${name} ${formatValue(value)}`);
  return {
    key: `evaluation ${run} ${split} ${time}`,
    kind: "evaluation",
    time,
    run,
    step,
    level: INFO,
    source: split,
    text: `${means.join(", ")} over ${formatCount(samples)} samples`,
  };
}

export function checkpointMark(event: CheckpointSaved): LogItem {
  const { time, run, step, label, path, size } = event;
  return {
    key: `checkpoint ${run} ${time} ${path}`,
    kind: "checkpoint",
    time,
    run,
    step,
    level: INFO,
    source: "checkpoint",
    text: `${label} saved, ${formatBytes(size)}: ${path}`,
  };
}

export function droppedMark(event: RecordsDropped): LogItem {
  return {
    key: `dropped ${event.run} ${event.time}`,
    kind: "warning",
    time: event.time,
    run: event.run,
    step: null,
    level: WARNING,
    source: "store",
    text: `${formatCount(event.count)} records were given up: ${event.reason}`,
  };
}
