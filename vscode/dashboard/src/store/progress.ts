import type { SessionModel } from "./session";
import type { EpochStarted, LimitsChanged } from "../wire/types";

/** How far the current run is. */
export interface Progress {
  step: number;
  /** The step at which it ends, where that can be told or estimated. */
  lastStep: number | null;
  /** Whether `lastStep` is computed from epochs rather than set. */
  isEstimate: boolean;
  epoch: number;
  lastEpoch: number | null;
  /** Between 0 and 1; `null` when there is no end in sight. */
  share: number | null;
  /** Where it pauses by itself, as a sentence's end. */
  pausesAt: string | null;
}

export function progressOf(model: SessionModel): Progress | null {
  const run = model.currentRun;
  if (!run) return null;
  const limits = model.limits.get(run.name);
  const perEpoch = limits?.steps_per_epoch ?? epochLength(model.epochs, run.name);
  const lastEpoch = limits?.max_epochs ?? null;
  const byEpochs = lastEpoch !== null && perEpoch !== null ? lastEpoch * perEpoch : Infinity;
  const bySteps = limits?.max_steps ?? Infinity;
  const end = Math.min(byEpochs, bySteps);
  const lastStep = Number.isFinite(end) ? Math.max(end, run.step) : null;
  return {
    step: run.step,
    lastStep,
    isEstimate: lastStep !== null && bySteps > lastStep,
    epoch: run.epoch,
    lastEpoch,
    share: shareOf(run.step, lastStep, run.epoch, lastEpoch),
    pausesAt: pauseText(limits),
  };
}

function shareOf(
  step: number,
  lastStep: number | null,
  epoch: number,
  lastEpoch: number | null,
): number | null {
  if (lastStep !== null) return lastStep === 0 ? 0 : step / lastStep;
  if (lastEpoch === null || lastEpoch === 0) return null;
  // Without the length of an epoch only whole ones count.
  return Math.min(1, Math.max(0, epoch - 1) / lastEpoch);
}

function pauseText(limits: LimitsChanged | undefined): string | null {
  const step = limits?.pause_at_step ?? null;
  const epoch = limits?.pause_after_epoch ?? null;
  if (step !== null) return `step ${step.toLocaleString("en-US")}`;
  return epoch === null ? null : `the end of epoch ${epoch.toLocaleString("en-US")}`;
}

/** The steps of a run's last whole epoch. */
function epochLength(epochs: readonly EpochStarted[], run: string): number | null {
  const [last, before] = epochs.filter((epoch) => epoch.run === run).slice(-2).reverse();
  if (!last || !before || last.epoch !== before.epoch + 1) return null;
  return last.step > before.step ? last.step - before.step : null;
}
