import { useSignal } from "@preact/signals";
import { formatCount } from "../format/number";
import type { SessionModel } from "../store/session";
import type { Reset } from "../wire/types";
import { Dialog, DialogForm, Field } from "./dialog";
import { useControls } from "./use-controls";

/** Asks before training begins again. */
export function ResetDialog(props: { model: SessionModel; onClose: () => void }) {
  const { model } = props;
  const controls = useControls(model);
  const name = useSignal("");
  const run = model.currentRun;
  return (
    <Dialog title="Begin again?" testid="reset-dialog" onClose={props.onClose}>
      <p>
        Training goes on from the state before step 1, as a new run.
        {run &&
          ` \u201c${run.name}\u201d ends at step ${formatCount(run.step)}; its curves and checkpoints stay.`}
      </p>
      <DialogForm
        submit="Begin again"
        testid="reset"
        isDangerous
        why={controls.why("reset")}
        onCancel={props.onClose}
        onSubmit={() => {
          const command: Reset = { kind: "reset" };
          if (name.value.trim() !== "") command.run = name.value.trim();
          controls.ask(command);
          props.onClose();
          return null;
        }}
      >
        <Field label="Name of the new run (numbered when left empty)">
          <input
            class="input"
            type="text"
            data-testid="reset-run"
            value={name.value}
            onInput={(event) => (name.value = event.currentTarget.value)}
          />
        </Field>
      </DialogForm>
    </Dialog>
  );
}
