import type { CommandStage, TrackedCommand } from "../store/commands";
import { formatCount } from "./number";

/** How far a command has come, in a word or two. */
export const STAGE_LABELS: Record<CommandStage, string> = {
  sent: "on its way",
  unconfirmed: "not confirmed",
  unanswered: "never answered",
  queued: "queued",
  received: "received",
  applied: "applied",
  refused: "refused",
};

/** How far a command has come: its progress, or the step at which it was applied. */
export function stageText({ stage, step, outcome, progress }: TrackedCommand): string {
  if (progress && stage === "received") return progressText(progress);
  const at = outcome?.kind === "applied" ? outcome.step : step;
  const isPlaced = (stage === "applied" || stage === "refused") && at !== null;
  return isPlaced ? `${STAGE_LABELS[stage]} at step ${formatCount(at)}` : STAGE_LABELS[stage];
}

function progressText({ done, total, unit }: NonNullable<TrackedCommand["progress"]>): string {
  return total > 0
    ? `${formatCount(done)} of ${formatCount(total)} ${unit}`
    : `${formatCount(done)} ${unit}`;
}
