import type { SessionModel } from "../store/session";
import { Dialog, DialogForm } from "./dialog";
import { useControls } from "./use-controls";

/** Asks before a run is ended, which cannot be taken back. */
export function StopDialog(props: { model: SessionModel; onClose: () => void }) {
  const controls = useControls(props.model);
  return (
    <Dialog title="Stop this run?" testid="stop-dialog" onClose={props.onClose}>
      <p>
        Training ends before its next step. A checkpoint is saved first, and your script goes on
        after the training loop.
      </p>
      <DialogForm
        submit="Stop the run"
        testid="stop"
        isDangerous
        dismiss="Keep training"
        why={controls.why("stop")}
        onCancel={props.onClose}
        onSubmit={() => {
          controls.ask({ kind: "stop" });
          props.onClose();
          return null;
        }}
      />
    </Dialog>
  );
}
