import { useSignal } from "@preact/signals";
import { formatCount, formatValue } from "../format/number";
import type { SessionModel } from "../store/session";
import type { GuardTripped } from "../wire/types";
import { useApp, useDashboard } from "./context";
import { CopyButton } from "./copy-button";
import { Notice } from "./notice";

const DID: Record<string, string> = {
  warn: "warned",
  pause: "paused the run",
  stop: "stopped the run",
};
/** As many indices are shown; all of them are copied. */
const SHOWN_INDICES = 12;

/** The newest trip of each guard, until it is dismissed or the guard trips again. */
export function GuardNotices(props: { model: SessionModel }) {
  useDashboard();
  const { model } = props;
  const dismissed = useSignal(new Map<string, number>());
  return (
    <>
      {[...model.guards].map(([guard, { newest, count }]) => {
        if (dismissed.value.get(guard) === count) return null;
        const dismiss = (): void => {
          dismissed.value = new Map(dismissed.value).set(guard, count);
        };
        return (
          <GuardNotice key={guard} model={model} trip={newest} count={count} onDismiss={dismiss} />
        );
      })}
    </>
  );
}

function GuardNotice(props: {
  model: SessionModel;
  trip: GuardTripped;
  count: number;
  onDismiss: () => void;
}) {
  const { model, trip, count } = props;
  const { guard, action, message, step, run, indices = [] } = trip;
  return (
    <Notice tone={action === "warn" ? "warning" : "danger"} testid="guard" onDismiss={props.onDismiss}>
      <p>
        The guard <strong>{guard}</strong> {DID[action] ?? action} at step {formatCount(step)}
        {model.runs.size > 1 && ` of ${run}`}: {message}
        {typeof trip.value === "number" && ` (${formatValue(trip.value)})`}
        {count > 1 && ` It has tripped ${formatCount(count)} times.`}
      </p>
      {indices.length > 0 && <Indices indices={indices} />}
      <LastGood model={model} checkpoint={trip.checkpoint ?? ""} />
    </Notice>
  );
}

function Indices(props: { indices: readonly number[] }) {
  const { indices } = props;
  const rest = indices.length - SHOWN_INDICES;
  return (
    <p class="guard-batch">
      The batch: samples <code>{indices.slice(0, SHOWN_INDICES).join(", ")}</code>
      {rest > 0 && ` and ${formatCount(rest)} more`} <CopyButton text={indices.join(", ")} />
    </p>
  );
}

/** The last checkpoint before the step, and the way back to it while it is kept. */
function LastGood(props: { model: SessionModel; checkpoint: string }) {
  const { dialogs } = useApp();
  const { checkpoint } = props;
  if (checkpoint === "") return null;
  const kept = props.model.checkpoints.find(checkpoint);
  return (
    <p>
      The last checkpoint before it: <code>{checkpoint}</code>{" "}
      {kept ? (
        <button
          type="button"
          class="text-button"
          data-testid="guard-rewind"
          onClick={() => dialogs.show("checkpoints", checkpoint)}
        >
          Go back to it&hellip;
        </button>
      ) : (
        "(no longer kept)"
      )}
    </p>
  );
}
