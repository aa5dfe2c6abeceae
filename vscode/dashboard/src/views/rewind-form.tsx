import { useSignal } from "@preact/signals";
import { formatCount } from "../format/number";
import { checkpointKey } from "../store/checkpoints";
import type { SessionModel } from "../store/session";
import type { CheckpointSaved, LoadCheckpoint } from "../wire/types";
import { DialogForm, Field } from "./dialog";
import { useControls } from "./use-controls";

/** Asks before training goes back to a checkpoint, and says what that undoes. */
export function RewindForm(props: {
  model: SessionModel;
  checkpoint: CheckpointSaved;
  onBack: () => void;
  onClose: () => void;
}) {
  const { model, checkpoint } = props;
  const controls = useControls(model);
  const isNewRun = useSignal(false);
  const name = useSignal("");
  const onSubmit = (): string | null => {
    const command: LoadCheckpoint = {
      kind: "load-checkpoint",
      checkpoint: checkpointKey(checkpoint),
      as_new_run: isNewRun.value,
    };
    if (isNewRun.value && name.value.trim() !== "") command.run = name.value.trim();
    controls.ask(command);
    props.onClose();
    return null;
  };
  return (
    <DialogForm
      submit={`Go back to step ${formatCount(checkpoint.step)}`}
      testid="load-checkpoint"
      isDangerous={!isNewRun.value}
      dismiss="Back"
      why={controls.why("load-checkpoint")}
      onCancel={props.onBack}
      onSubmit={onSubmit}
    >
      <p>
        To step {formatCount(checkpoint.step)} of <strong>{checkpoint.run}</strong>, saved as{" "}
        <strong>{checkpoint.label}</strong>.
      </p>
      <fieldset class="choices">
        <legend class="visually-hidden">How</legend>
        <label class="choice">
          <input
            type="radio"
            name="how"
            data-testid="load-in-place"
            checked={!isNewRun.value}
            onChange={() => (isNewRun.value = false)}
          />
          <span>
            <strong>In place</strong>
            <span class="choice-hint">{inPlaceText(model, checkpoint)}</span>
          </span>
        </label>
        <label class="choice">
          <input
            type="radio"
            name="how"
            data-testid="load-as-new-run"
            checked={isNewRun.value}
            onChange={() => (isNewRun.value = true)}
          />
          <span>
            <strong>As a new run</strong>
            <span class="choice-hint">
              Nothing is undone: a new run begins there, beside those that are.
            </span>
          </span>
        </label>
      </fieldset>
      {isNewRun.value && (
        <Field label="Name of the new run (numbered when left empty)">
          <input
            class="input"
            type="text"
            data-testid="load-run"
            value={name.value}
            onInput={(event) => (name.value = event.currentTarget.value)}
          />
        </Field>
      )}
    </DialogForm>
  );
}

/** What going back in place undoes. */
function inPlaceText(model: SessionModel, { run, step }: CheckpointSaved): string {
  const at = model.runs.get(run)?.step ?? step;
  const goesOn = `\u201c${run}\u201d goes on from there.`;
  const steps = at - step;
  if (steps <= 0) return goesOn;
  const undone = steps === 1 ? "1 step is" : `${formatCount(steps)} steps are`;
  return (
    `${goesOn} ${undone} undone: what was measured after step ${formatCount(step)}, up to step ` +
    `${formatCount(at)}, leaves the charts. It stays in the log and in the record, and ` +
    "checkpoints stay."
  );
}
