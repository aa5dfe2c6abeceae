import type { StepRange } from "../store/detail";
import type { SessionModel } from "../store/session";

/**
 * From the first to the last step of the shown runs, over all their metrics: charts that stand
 * beside each other show the same steps at the same place.
 */
export function extentOf(model: SessionModel, hidden: ReadonlySet<string>): StepRange | null {
  let from = Infinity;
  let to = -Infinity;
  for (const name of model.metrics.names) {
    for (const [run, series] of model.metrics.runs(name)) {
      if (hidden.has(run)) continue;
      from = Math.min(from, series.steps[0] ?? Infinity);
      to = Math.max(to, series.lastStep ?? -Infinity);
    }
  }
  return from <= to ? { from, to } : null;
}
