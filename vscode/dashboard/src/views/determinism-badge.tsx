import type { SessionModel } from "../store/session";
import { Findings } from "./command-notices";
import { useDashboard } from "./context";
import { Popover } from "./popover";

/** Whether going back and resuming will be exact, with the reasons where they will not. */
export function DeterminismBadge(props: { model: SessionModel }) {
  useDashboard();
  const { model } = props;
  // A new run in the same process is as exact as the one it came from.
  const assessed =
    model.determinism.get(model.currentRun?.name ?? "") ?? [...model.determinism.values()].at(-1);
  if (!assessed) return null;
  const { exact, findings = [] } = assessed;
  const word = exact ? "exact" : "not exact";
  return (
    <Popover
      label={`Determinism: ${word}`}
      testid="determinism"
      buttonClass={exact ? "badge" : "badge badge-warning"}
      title="Whether going back and resuming will be exact"
      button={word}
    >
      {() => (
        <div class="badge-text">
          <p>
            {exact
              ? "Going back to a checkpoint, and resuming from one, will end with the same weights to the last bit."
              : "Going back to a checkpoint, or resuming from one, will not be exact:"}
          </p>
          <Findings findings={findings} />
        </div>
      )}
    </Popover>
  );
}
