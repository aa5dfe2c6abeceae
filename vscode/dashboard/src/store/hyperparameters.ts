/** From what a person typed to the commands that set it, or to what is wrong with it. */

import { formatExact } from "../format/number";
import type { Hyperparameter, HyperparametersDeclared, SetHyperparameters } from "../wire/types";

export type Value = Hyperparameter["value"];

/** The hyperparameters of one parameter group; `null` is what has no groups. */
export interface HyperparameterGroup {
  group: number | null;
  title: string;
  values: Hyperparameter[];
}

export function groupsOf(declared: HyperparametersDeclared): HyperparameterGroup[] {
  const byGroup = new Map<number | null, Hyperparameter[]>();
  for (const value of declared.values) {
    const group = value.group ?? null;
    byGroup.set(group, [...(byGroup.get(group) ?? []), value]);
  }
  const numbered = [...byGroup.keys()].filter((group) => group !== null).length;
  return [...byGroup].map(([group, values]) => ({ group, values, title: titleOf(group, numbered) }));
}

function titleOf(group: number | null, numbered: number): string {
  if (group === null) return "Training";
  return numbered === 1 ? "Optimizer" : `Optimizer, group ${group}`;
}

/** What an edit is kept under while it is typed. */
export function fieldKey({ group = null, name }: Hyperparameter): string {
  return `${group ?? ""} ${name}`;
}

/** A typed text as a value of the same type as the present one, or why it is none. */
export function parseValue(
  text: string,
  field: Hyperparameter,
): { value: Value } | { problem: string } {
  const typed = text.trim();
  if (typeof field.value === "boolean") return { value: typed === "true" };
  if (typeof field.value === "string") {
    return typed === "" ? { problem: `${field.name} is a text.` } : { value: typed };
  }
  // What is shown has a proper minus sign, and may have been copied from there.
  const value = Number(typed.replaceAll("\u2212", "-"));
  if (typed === "" || !Number.isFinite(value)) return { problem: `${field.name} is a number.` };
  const low = field.low ?? null;
  const high = field.high ?? null;
  if (low !== null && value < low) return { problem: `${field.name} is at least ${formatExact(low)}.` };
  if (high !== null && value > high) return { problem: `${field.name} is at most ${formatExact(high)}.` };
  return { value };
}

/** The bounds of a value in words; empty where there are none. */
export function boundsText({ low = null, high = null }: Hyperparameter): string {
  if (low !== null && high !== null) return `${formatExact(low)} to ${formatExact(high)}`;
  if (low !== null) return `at least ${formatExact(low)}`;
  return high === null ? "" : `at most ${formatExact(high)}`;
}

export interface Edits {
  commands: SetHyperparameters[];
  /** By field key. */
  problems: Map<string, string>;
}

/**
 * The commands for the texts typed, by field key, and for holding the learning rate or not (`null`:
 * as it is). With one parameter group it is a single command, so that all of it is set or nothing.
 */
export function editsOf(
  groups: readonly HyperparameterGroup[],
  texts: ReadonlyMap<string, string>,
  hold: boolean | null,
): Edits {
  const problems = new Map<string, string>();
  const byGroup = new Map<number | null, Record<string, Value>>();
  const numbered = groups.filter(({ group }) => group !== null).length;
  for (const { group, values } of groups) {
    for (const field of values) {
      const text = texts.get(fieldKey(field));
      if (text === undefined) continue;
      const parsed = parseValue(text, field);
      if ("problem" in parsed) problems.set(fieldKey(field), parsed.problem);
      else if (parsed.value !== field.value) {
        const target = numbered === 1 ? null : group;
        byGroup.set(target, { ...byGroup.get(target), [field.name]: parsed.value });
      }
    }
  }
  return { commands: problems.size > 0 ? [] : commandsOf(byGroup, hold), problems };
}

function commandsOf(
  byGroup: ReadonlyMap<number | null, Record<string, Value>>,
  hold: boolean | null,
): SetHyperparameters[] {
  const commands = [...byGroup].map(([group, values]): SetHyperparameters => {
    const command: SetHyperparameters = { kind: "set-hyperparameters", values };
    if (group !== null) command.group = group;
    if (hold !== null && "lr" in values) command.hold = hold;
    return command;
  });
  const isHeld = hold === null || commands.some((command) => command.hold !== undefined);
  return isHeld ? commands : [...commands, { kind: "set-hyperparameters", values: {}, hold }];
}
