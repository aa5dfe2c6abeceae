/** Commands and what came of them, in words. */

import type {
  Command,
  HealthChecked,
  HyperparameterChange,
  HyperparametersSet,
  LimitsSet,
  Outcome,
  Result,
} from "../wire/types";
import { formatBytes, formatCount, formatExact, formatValue } from "./number";

/** What a command is called where it is asked for and told of. */
export const COMMAND_LABELS: Record<Command["kind"], string> = {
  pause: "Pause",
  resume: "Resume",
  "run-for": "Run for",
  stop: "Stop",
  cancel: "Cancel",
  "save-checkpoint": "Save checkpoint",
  "load-checkpoint": "Rewind",
  reset: "Reset",
  test: "Test",
  validate: "Validate",
  "set-hyperparameters": "Hyperparameters",
  extend: "Extend",
  note: "Note",
  prove: "Prove",
  health: "Health",
};

/** What was asked for beyond the kind of the command; empty where there is no more. */
export function argumentsText(command: Command): string {
  switch (command.kind) {
    case "pause":
      return command.release === true ? "releasing device memory" : "";
    case "run-for":
      return amounts(command.steps, command.epochs);
    case "extend":
      return amounts(command.steps, command.epochs);
    case "cancel":
      return command.command ?? "";
    case "save-checkpoint":
      return words(quoted(command.name), command.pin === true ? "pinned" : "");
    case "load-checkpoint":
      return words(command.checkpoint, command.as_new_run === true ? newRun(command.run) : "");
    case "reset":
      return newRun(command.run);
    case "set-hyperparameters":
      return words(
        ...Object.entries(command.values ?? {}).map(([name, value]) => `${name} ${formatExact(value)}`),
        typeof command.group === "number" ? `group ${command.group}` : "",
        typeof command.hold === "boolean" ? (command.hold ? "held" : "released") : "",
      );
    case "note":
      return words(quoted(command.text), typeof command.step === "number" ? `step ${formatCount(command.step)}` : "");
    case "prove":
      return command.steps === undefined ? "" : amounts(command.steps, null);
    case "health":
      return words(
        command.check ?? "all",
        typeof command.every === "number" ? `every ${amounts(command.every, null)}` : "",
        command.proof ? `proof of ${amounts(command.proof, null)}` : "",
      );
    case "resume":
    case "stop":
    case "test":
    case "validate":
      return "";
  }
}

/** Who asked for a command, to somebody who did not. */
export function authorText(author: string): string {
  return author === "dashboard" ? "from another dashboard" : `by ${author}`;
}

/** Why a command was refused, or what it brought about. */
export function outcomeText(outcome: Outcome | null): string {
  if (!outcome) return "";
  if (outcome.kind === "refused") return outcome.reason;
  const { message = "", result } = outcome;
  return message === "" && result ? resultText(result) : message;
}

function resultText(result: Result): string {
  switch (result.kind) {
    case "checkpoint-written":
      return `${result.id}, ${formatBytes(result.size)}`;
    case "rewinding":
      return `${result.run} is at step ${formatCount(result.step)}${exactness(result.exact)}`;
    case "evaluation":
      return Object.entries(result.values)
        .map(([name, value]) => `${name} ${formatValue(value)}`)
        .join(", ");
    case "hyperparameters-set":
      return hyperparametersText(result);
    case "limits-set":
      return limitsText(result);
    case "released":
      return `${formatBytes(result.freed)} of ${result.device} are free again`;
    case "proof":
      return result.exact
        ? `${amounts(result.steps, null)}, twice the same to the last bit`
        : `not the same: ${words(result.difference ?? "", result.hint ?? "")}`;
    case "health-checked":
      return healthText(result);
  }
}

function healthText({ reports }: HealthChecked): string {
  return reports
    .map(({ check, findings = [], refusal = "" }) => {
      if (refusal !== "") return `${check} not made`;
      return `${check}: ${findings.length === 0 ? "nothing found" : amountOf(findings.length)}`;
    })
    .join(", ");
}

function amountOf(findings: number): string {
  return `${formatCount(findings)} finding${findings === 1 ? "" : "s"}`;
}

function hyperparametersText({ changes, lr_rule = "" }: HyperparametersSet): string {
  return [...changes.map(changeText), lr_rule].filter((text) => text !== "").join("; ");
}

/** A value before and after, and as it was asked for where that is not what it became. */
export function changeText(change: HyperparameterChange): string {
  const { name, group = null, before, requested, applied } = change;
  const where = group === null ? "" : ` (group ${group})`;
  const asked = requested === applied ? "" : `, asked for ${formatExact(requested)}`;
  return `${name}${where} ${formatExact(before)} \u2192 ${formatExact(applied)}${asked}`;
}

function limitsText({ max_epochs, max_steps, pause_at_step, pause_after_epoch }: LimitsSet): string {
  const known: [string, number | null | undefined][] = [
    ["ends after epoch", max_epochs],
    ["ends after step", max_steps],
    ["pauses after step", pause_at_step],
    ["pauses after epoch", pause_after_epoch],
  ];
  return words(
    ...known.map(([text, value]) => (typeof value === "number" ? `${text} ${formatCount(value)}` : "")),
  );
}

function exactness(exact: boolean | undefined): string {
  return exact === false ? ", not exactly as it was" : "";
}

function amounts(steps: number | null | undefined, epochs: number | null | undefined): string {
  return words(amount(steps, "step"), amount(epochs, "epoch"));
}

function amount(count: number | null | undefined, unit: string): string {
  if (typeof count !== "number" || count === 0) return "";
  return `${formatCount(count)} ${unit}${count === 1 ? "" : "s"}`;
}

function newRun(name: string | undefined): string {
  return name === undefined || name === "" ? "as a new run" : `as the new run ${name}`;
}

function quoted(text: string | undefined): string {
  return text === undefined || text === "" ? "" : `\u201c${text}\u201d`;
}

function words(...parts: string[]): string {
  return parts.filter((part) => part !== "").join(", ");
}
