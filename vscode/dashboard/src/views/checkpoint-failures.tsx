import { useSignal } from "@preact/signals";
import { formatCount } from "../format/number";
import type { SessionModel } from "../store/session";
import { useDashboard } from "./context";
import { Notice } from "./notice";

/** That a checkpoint could not be written, until it is dismissed or happens again. */
export function CheckpointFailures(props: { model: SessionModel }) {
  useDashboard();
  const { failures } = props.model.checkpoints;
  const dismissed = useSignal(0);
  const newest = failures.at(-1);
  if (!newest || dismissed.value === failures.length) return null;
  return (
    <Notice
      tone="warning"
      testid="checkpoint-failed"
      onDismiss={() => (dismissed.value = failures.length)}
    >
      The checkpoint at step {formatCount(newest.step)} ({newest.label}) could not be written:{" "}
      {newest.reason} Training goes on without it.
      {failures.length > 1 && ` ${formatCount(failures.length)} have failed in all.`}
    </Notice>
  );
}
