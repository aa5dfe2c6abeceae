import type { EpochStarted } from "../wire/types";

/** The epoch that a run's step belongs to; an epoch begins after the step it was started at. */
export function epochAt(
  epochs: readonly EpochStarted[],
  run: string,
  step: number,
): number | undefined {
  return epochs.findLast((epoch) => epoch.run === run && epoch.step < step)?.epoch;
}
