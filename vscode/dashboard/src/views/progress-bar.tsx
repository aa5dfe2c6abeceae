import { progressOf } from "../store/progress";
import type { SessionModel } from "../store/session";
import { useDashboard } from "./context";

/** How far the run is, as a thin line. */
export function ProgressBar(props: { model: SessionModel }) {
  useDashboard();
  const progress = progressOf(props.model);
  if (progress?.share == null) return null;
  return (
    <progress
      class="run-progress"
      aria-label="How far the run is"
      data-testid="progress"
      value={progress.share}
      max={1}
    />
  );
}
