/** Events told as lines of the log. */

import { argumentsText, outcomeText } from "../format/command";
import { formatBytes, formatCount, formatValue } from "../format/number";
import { formatSpan } from "../format/time";
import type {
  CheckpointFailed,
  CheckpointRemoved,
  CheckpointSaved,
  CommandChanged,
  DeterminismAssessed,
  EvaluationFinished,
  GuardTripped,
  HealthReported,
  NoteAdded,
  RecordsDropped,
  Rewound,
  StallEnded,
  StallNoticed,
} from "../wire/types";
import { checkpointKey } from "./checkpoints";
import { SCHEDULE } from "./commands";
import { worstOf } from "./health";
import type { LogItem } from "./log";

const DEBUG = 10;
const INFO = 20;
const WARNING = 30;
const ERROR = 40;
/** Checkpoints that are written again and again by themselves. */
const ROUTINE_LABELS = new Set(["best", "periodic"]);

export function commandMark(event: CommandChanged): LogItem {
  const { id, time, run, step, author, command } = event;
  const given = argumentsText(command);
  const outcome = outcomeText(event.outcome ?? null);
  return {
    key: `command ${id}`,
    kind: "command",
    time,
    run,
    step,
    level: event.status === "refused" ? WARNING : INFO,
    source: author,
    text:
      `${command.kind}${given === "" ? "" : ` ${given}`} ${event.status}` +
      (outcome === "" ? "" : `: ${outcome}`),
    ...(author === SCHEDULE ? { routine: `command ${run} ${command.kind} ${given}` } : {}),
  };
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
    // A test is asked for, or ends the run.
    ...(split === "test" ? {} : { routine: `evaluation ${run} ${split}` }),
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
    ...(ROUTINE_LABELS.has(label) ? { routine: `checkpoint ${run} ${label}` } : {}),
  };
}

/** The ring of checkpoints turns often: that one was let go is told, but quietly. */
export function removalMark(
  { run, time, id, reason }: CheckpointRemoved,
  removed: CheckpointSaved | undefined,
): LogItem {
  return {
    key: `removal ${run} ${time} ${id}`,
    kind: "checkpoint",
    time,
    run,
    step: removed?.step ?? null,
    level: DEBUG,
    source: "checkpoint",
    text: `${removed ? `${removed.label} (${checkpointKey(removed)})` : id} is no longer kept: ${reason}`,
    routine: `removal ${run}`,
  };
}

export function checkpointFailureMark(event: CheckpointFailed): LogItem {
  const { run, time, step, label, reason } = event;
  return {
    key: `checkpoint-failure ${run} ${time}`,
    kind: "warning",
    time,
    run,
    step,
    level: WARNING,
    source: "checkpoint",
    text: `${label} could not be written: ${reason}`,
  };
}

export function rewindMark(event: Rewound): LogItem {
  const { run, time, step, left_step, checkpoint, reason = "", exact, findings = [] } = event;
  const why = reason === "" ? "" : ` (${reason})`;
  const doubts = exact === false ? `; not exactly as it was: ${findings.join(" ")}` : "";
  return {
    key: `rewind ${run} ${time}`,
    kind: "rewind",
    time,
    run,
    step,
    level: exact === false ? WARNING : INFO,
    source: checkpoint,
    text: `back from step ${formatCount(left_step)} to step ${formatCount(step)}${why}${doubts}`,
  };
}

export function noteMark({ run, time, step, author, text }: NoteAdded): LogItem {
  return {
    key: `note ${run} ${step} ${time}`,
    kind: "note",
    time,
    run,
    step,
    level: INFO,
    source: author,
    text,
  };
}

export function guardMark({ run, time, step, guard, action, message }: GuardTripped): LogItem {
  return {
    key: `guard ${guard} ${run} ${time}`,
    kind: "guard",
    time,
    run,
    step,
    level: WARNING,
    source: guard,
    text: `${message} (${action})`,
  };
}

/** A check that found nothing is told, but quietly: it may be made again and again. */
export function healthMark(event: HealthReported): LogItem {
  const { time, run, step, report } = event;
  const { check, findings = [], refusal = "" } = report;
  const worst = worstOf(findings);
  const told = findings.map(({ severity, where, what }) => `${severity}: ${where === "" ? "" : `${where}: `}${what}`);
  return {
    key: `health ${run} ${check} ${time}`,
    kind: "health",
    time,
    run,
    step,
    level: worst === "critical" ? ERROR : worst === "warning" ? WARNING : INFO,
    source: check,
    text: refusal === "" ? told.join("\n") || "nothing found" : `not checked: ${refusal}`,
    ...(worst === null ? { routine: `health ${run} ${check}` } : {}),
  };
}

export function stallMark(event: StallNoticed | StallEnded): LogItem {
  const { run, time, step, phase, seconds } = event;
  const isOver = event.kind === "stall-ended";
  return {
    key: `${event.kind} ${run} ${time}`,
    kind: "warning",
    time,
    run,
    step,
    level: isOver ? INFO : WARNING,
    source: "watchdog",
    text: isOver
      ? `training moves again, after ${formatSpan(seconds)} in ${phase}`
      : `nothing has moved for ${formatSpan(seconds)} in ${phase}:\n${event.stack}`,
  };
}

export function determinismMark({ run, time, findings = [] }: DeterminismAssessed): LogItem {
  return {
    key: `determinism ${run} ${time}`,
    kind: "warning",
    time,
    run,
    step: null,
    level: WARNING,
    source: "determinism",
    text: `resuming and rewinding will not be exact: ${findings.join(" ")}`,
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
