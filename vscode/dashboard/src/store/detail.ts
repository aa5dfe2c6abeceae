import type { Points } from "./decimate";
import { lowerBound } from "./series";

/** A range of steps, both ends included. */
export interface StepRange {
  from: number;
  to: number;
}

/** A series with one stretch of it replaced by a finer one, and what came after it kept. */
export function withDetail(series: Points, detail: Points, range: StepRange): Points {
  const last = detail.steps.at(-1);
  if (last === undefined) return series;
  const before = lowerBound(series.steps, range.from);
  const after = lowerBound(series.steps, last + 1);
  return {
    steps: [...series.steps.slice(0, before), ...detail.steps, ...series.steps.slice(after)],
    values: [...series.values.slice(0, before), ...detail.values, ...series.values.slice(after)],
  };
}
