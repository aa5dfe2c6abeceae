import { useSignal } from "@preact/signals";
import { formatCount } from "../format/number";
import { editsOf, groupsOf } from "../store/hyperparameters";
import type { SessionModel } from "../store/session";
import type { HyperparametersDeclared } from "../wire/types";
import { Dialog, DialogForm } from "./dialog";
import { HyperparameterOutcome } from "./hyperparameter-outcome";
import { HyperparameterTable } from "./hyperparameter-table";
import { useControls } from "./use-controls";

/** The hyperparameters of the current run, to be read and to be changed. */
export function HyperparametersDialog(props: { model: SessionModel; onClose: () => void }) {
  const { model, onClose } = props;
  useControls(model);
  const declared = model.hyperparameters.get(model.currentRun?.name ?? "");
  return (
    <Dialog title="Hyperparameters" testid="hyperparameters-dialog" isWide onClose={onClose}>
      {declared ? (
        <HyperparametersForm model={model} declared={declared} onClose={onClose} />
      ) : (
        <>
          <p>The run has not said yet which hyperparameters it has.</p>
          <div class="dialog-buttons">
            <button type="button" class="button" onClick={onClose}>
              Close
            </button>
          </div>
        </>
      )}
    </Dialog>
  );
}

function HyperparametersForm(props: {
  model: SessionModel;
  declared: HyperparametersDeclared;
  onClose: () => void;
}) {
  const { model, declared } = props;
  const controls = useControls(model);
  const texts = useSignal<ReadonlyMap<string, string>>(new Map());
  const hold = useSignal<boolean | null>(null);
  const asked = useSignal<readonly string[]>([]);
  const groups = groupsOf(declared);
  const edits = editsOf(groups, texts.value, hold.value);
  // A scheduler moves the learning rate between declarations; what was measured before is older.
  const run = model.currentRun;
  const latest = run && run.step > declared.step ? run.latest : {};
  const isHeld = declared.lr_owner === "held";
  const onSubmit = (): string | null => {
    if (edits.problems.size > 0) return "Nothing was sent: mend what is marked.";
    if (edits.commands.length === 0) return "Type a new value first.";
    asked.value = edits.commands.map((command) => controls.ask(command));
    texts.value = new Map();
    hold.value = null;
    return null;
  };
  return (
    <DialogForm
      submit="Apply"
      testid="hyperparameters"
      dismiss="Close"
      why={controls.why("set-hyperparameters")}
      onCancel={props.onClose}
      onSubmit={onSubmit}
    >
      <p class="lr-rule" data-testid="lr-rule" data-owner={declared.lr_owner}>
        <span class="lr-rule-name">Learning rate</span> {declared.lr_rule}
      </p>
      <HyperparameterTable
        groups={groups}
        latest={latest}
        texts={texts.value}
        problems={edits.problems}
        onEdit={(key, text) => (texts.value = edited(texts.value, key, text))}
      />
      {declared.lr_owner !== "constant" && (
        <label class="check">
          <input
            type="checkbox"
            data-testid="hold-lr"
            checked={hold.value ?? isHeld}
            onChange={(event) => {
              const wanted = event.currentTarget.checked;
              hold.value = wanted === isHeld ? null : wanted;
            }}
          />
          <span>
            Hold the learning rate by hand
            <span class="choice-hint">
              Otherwise the scheduler goes on, scaled to the value set here.
            </span>
          </span>
        </label>
      )}
      <p class="field-hint">
        Values as of step {formatCount(declared.step)}. A change takes effect before the next step.
      </p>
      <HyperparameterOutcome model={model} ids={asked.value} />
    </DialogForm>
  );
}

/** An emptied field is one that was not edited. */
function edited(
  texts: ReadonlyMap<string, string>,
  key: string,
  text: string,
): ReadonlyMap<string, string> {
  const next = new Map(texts);
  if (text.trim() === "") next.delete(key);
  else next.set(key, text);
  return next;
}
