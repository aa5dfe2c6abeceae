import type { Points } from "../store/decimate";
import { lowerBound } from "../store/series";

export interface Reading {
  step: number;
  value: number | null;
}

/**
 * The point nearest to a step, or the newest one when `step` is `null`. Nothing is read from
 * before the first point or from after the last, but for the time that one point stands for.
 */
export function readingAt({ steps, values }: Points, step: number | null): Reading | undefined {
  if (step !== null && !covers(steps, step)) return undefined;
  const index = step === null ? steps.length - 1 : nearestIndex(steps, step);
  const found = steps[index];
  return found === undefined ? undefined : { step: found, value: values[index] ?? null };
}

function covers(steps: readonly number[], step: number): boolean {
  const first = steps[0] ?? 0;
  const last = steps.at(-1) ?? 0;
  const spacing = (last - first) / Math.max(1, steps.length - 1);
  return step >= first - spacing && step <= last + spacing;
}

function nearestIndex(steps: readonly number[], step: number): number {
  const after = lowerBound(steps, step);
  if (after === 0) return 0;
  const before = after - 1;
  if (after === steps.length) return before;
  const isBeforeNearer = step - (steps[before] ?? 0) <= (steps[after] ?? 0) - step;
  return isBeforeNearer ? before : after;
}
