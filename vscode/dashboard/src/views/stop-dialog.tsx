import { isLingering, type SessionModel } from "../store/session";
import { Dialog, DialogForm } from "./dialog";
import { useControls } from "./use-controls";

const WHILE_TRAINING = {
  title: "Stop this run?",
  text:
    "Training ends before its next step. A checkpoint is saved first, and your script goes on " +
    "after the training loop.",
  submit: "Stop the run",
  dismiss: "Keep training",
};

/** The script only waits for somebody who might want more of it. */
const AT_END = {
  title: "End this run?",
  text:
    "Training is done, and its final state is saved. Your script stops waiting here and goes on " +
    "after the training loop; more training is then no longer possible from this page.",
  submit: "End the run",
  dismiss: "Keep it waiting",
};

/** Asks before a run is ended, which cannot be taken back. */
export function StopDialog(props: { model: SessionModel; onClose: () => void }) {
  const controls = useControls(props.model);
  const words = isLingering(props.model) ? AT_END : WHILE_TRAINING;
  return (
    <Dialog title={words.title} testid="stop-dialog" onClose={props.onClose}>
      <p>{words.text}</p>
      <DialogForm
        submit={words.submit}
        testid="stop"
        isDangerous
        dismiss={words.dismiss}
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
