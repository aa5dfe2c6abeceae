import { useSignal } from "@preact/signals";
import { formatCount } from "../format/number";
import type { SessionModel } from "../store/session";
import { useDashboard } from "./context";
import { Notice } from "./notice";

/** That a checkpoint could not be written, until it is dismissed or happens again. */
export function CheckpointFailures(props: { model: SessionModel }) {
  useDashboard();
  const { failure, failures } = props.model.checkpoints;
  const dismissed = useSignal(0);
  if (!failure || dismissed.value === failures) return null;
  return (
    <Notice
      tone="warning"
      testid="checkpoint-failed"
      onDismiss={() => (dismissed.value = failures)}
    >
      The checkpoint at step {formatCount(failure.step)} ({failure.label}) could not be written:{" "}
      {failure.reason} Training goes on without it.
      {failures > 1 && ` ${formatCount(failures)} have failed in all.`}
    </Notice>
  );
}
