import { useSignal } from "@preact/signals";
import { parseCount } from "../format/parse";
import type { SessionModel } from "../store/session";
import { Dialog, DialogForm, Field } from "./dialog";
import { useControls } from "./use-controls";

/** Train some steps twice, and compare. */
export function ProveDialog(props: { model: SessionModel; onClose: () => void }) {
  const controls = useControls(props.model);
  const steps = useSignal("10");
  const onSubmit = (): string | null => {
    const count = parseCount(steps.value);
    if (count === null) return "Type a whole number of at least 1.";
    controls.ask({ kind: "prove", steps: count });
    props.onClose();
    return null;
  };
  return (
    <Dialog title="Prove exactness" testid="prove-dialog" onClose={props.onClose}>
      <p>
        These steps are trained, taken back, trained again, and compared bit for bit. The first
        difference is named. Afterwards the run is as it was.
      </p>
      <DialogForm
        submit="Prove"
        testid="prove"
        why={controls.why("prove")}
        onCancel={props.onClose}
        onSubmit={onSubmit}
      >
        <Field label="Steps">
          <input
            class="input"
            type="number"
            min="1"
            step="1"
            inputMode="numeric"
            data-testid="prove-steps"
            autoFocus
            value={steps.value}
            onFocus={(event) => event.currentTarget.select()}
            onInput={(event) => (steps.value = event.currentTarget.value)}
          />
        </Field>
      </DialogForm>
    </Dialog>
  );
}
