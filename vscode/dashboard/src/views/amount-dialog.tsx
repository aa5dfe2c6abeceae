import { useSignal } from "@preact/signals";
import { formatCount } from "../format/number";
import { parseCount } from "../format/parse";
import { progressOf } from "../store/progress";
import type { SessionModel } from "../store/session";
import type { Command } from "../wire/types";
import { Dialog, DialogForm } from "./dialog";
import { useControls } from "./use-controls";

type Unit = "steps" | "epochs";

/** Train for so many more steps or epochs and pause there. */
export function RunForDialog(props: { model: SessionModel; onClose: () => void }) {
  return (
    <AmountDialog
      {...props}
      kind="run-for"
      title="Run for a while, then pause"
      text="Training goes on for this long from here, then pauses. It ends sooner where the run ends."
      submit="Run, then pause"
      initial={{ amount: "100", unit: "steps" }}
      build={(amount, unit) => ({ kind: "run-for", [unit]: amount })}
    />
  );
}

/** Train longer than planned. */
export function ExtendDialog(props: { model: SessionModel; onClose: () => void }) {
  const progress = progressOf(props.model);
  const ends = [
    progress?.lastEpoch == null ? "" : `after epoch ${formatCount(progress.lastEpoch)}`,
    progress?.lastStep == null || progress.isEstimate
      ? ""
      : `after step ${formatCount(progress.lastStep)}`,
  ].filter((text) => text !== "");
  return (
    <AmountDialog
      {...props}
      kind="extend"
      title="Train longer"
      text={`This much is added to the planned end${ends.length > 0 ? ` (${ends.join(", ")})` : ""}.`}
      submit="Extend"
      initial={{ amount: "1", unit: "epochs" }}
      build={(amount, unit) => ({ kind: "extend", [unit]: amount })}
    />
  );
}

function AmountDialog(props: {
  model: SessionModel;
  onClose: () => void;
  kind: "run-for" | "extend";
  title: string;
  text: string;
  submit: string;
  initial: { amount: string; unit: Unit };
  build: (amount: number, unit: Unit) => Command;
}) {
  const { kind } = props;
  const controls = useControls(props.model);
  const amount = useSignal(props.initial.amount);
  const unit = useSignal(props.initial.unit);
  const onSubmit = (): string | null => {
    const count = parseCount(amount.value);
    if (count === null) return "Type a whole number of at least 1.";
    controls.ask(props.build(count, unit.value));
    props.onClose();
    return null;
  };
  return (
    <Dialog title={props.title} testid={`${kind}-dialog`} onClose={props.onClose}>
      <p>{props.text}</p>
      <DialogForm
        submit={props.submit}
        testid={kind}
        why={controls.why(kind)}
        onCancel={props.onClose}
        onSubmit={onSubmit}
      >
        <div class="field-row">
          <input
            class="input"
            type="number"
            min="1"
            step="1"
            inputMode="numeric"
            aria-label="How many"
            data-testid={`${kind}-amount`}
            autoFocus
            value={amount.value}
            onFocus={(event) => event.currentTarget.select()}
            onInput={(event) => (amount.value = event.currentTarget.value)}
          />
          <select
            class="input"
            aria-label="Unit"
            data-testid={`${kind}-unit`}
            value={unit.value}
            onChange={(event) => (unit.value = event.currentTarget.value as Unit)}
          >
            <option value="steps">steps</option>
            <option value="epochs">epochs</option>
          </select>
        </div>
      </DialogForm>
    </Dialog>
  );
}
