import { useSignal } from "@preact/signals";
import type { SessionModel } from "../store/session";
import type { Note } from "../wire/types";
import { Dialog, DialogForm, Field } from "./dialog";
import { useControls } from "./use-controls";

/** A remark, pinned to a step of the current run. */
export function NoteDialog(props: { model: SessionModel; onClose: () => void }) {
  const controls = useControls(props.model);
  const text = useSignal("");
  const step = useSignal("");
  const onSubmit = (): string | null => {
    if (text.value.trim() === "") return "Type what is to be noted.";
    const command: Note = { kind: "note", text: text.value.trim() };
    if (step.value.trim() !== "") {
      const at = Number(step.value);
      if (!Number.isSafeInteger(at) || at < 0) return "A step is a whole number, from 0 on.";
      command.step = at;
    }
    controls.ask(command);
    props.onClose();
    return null;
  };
  return (
    <Dialog title="Add a note" testid="note-dialog" onClose={props.onClose}>
      <DialogForm
        submit="Add note"
        testid="note"
        why={controls.why("note")}
        onCancel={props.onClose}
        onSubmit={onSubmit}
      >
        <Field label="Note" hint="Shown in the charts and in the log.">
          <textarea
            class="input"
            rows={3}
            data-testid="note-text"
            autoFocus
            value={text.value}
            onInput={(event) => (text.value = event.currentTarget.value)}
          />
        </Field>
        <Field label="Step (where the run is, when left empty)">
          <input
            class="input"
            type="number"
            min="0"
            step="1"
            inputMode="numeric"
            data-testid="note-step"
            value={step.value}
            onInput={(event) => (step.value = event.currentTarget.value)}
          />
        </Field>
      </DialogForm>
    </Dialog>
  );
}
