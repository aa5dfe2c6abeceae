import { useSignal } from "@preact/signals";
import type { SessionModel } from "../store/session";
import type { SaveCheckpoint } from "../wire/types";
import { Dialog, DialogForm, Field } from "./dialog";
import { useControls } from "./use-controls";

/** Write the whole state down, under a name or not. */
export function SaveDialog(props: { model: SessionModel; onClose: () => void }) {
  const controls = useControls(props.model);
  const name = useSignal("");
  const isPinned = useSignal(false);
  return (
    <Dialog title="Save a checkpoint" testid="save-checkpoint-dialog" onClose={props.onClose}>
      <p>
        The whole state is written at the next safe point, so that training can be taken up exactly
        there. A named or pinned checkpoint is kept; of the others a run keeps the newest few.
      </p>
      <DialogForm
        submit="Save"
        testid="save-checkpoint"
        why={controls.why("save-checkpoint")}
        onCancel={props.onClose}
        onSubmit={() => {
          const command: SaveCheckpoint = { kind: "save-checkpoint", pin: isPinned.value };
          if (name.value.trim() !== "") command.name = name.value.trim();
          controls.ask(command);
          props.onClose();
          return null;
        }}
      >
        <Field label="Name (may be left empty)">
          <input
            class="input"
            type="text"
            data-testid="save-checkpoint-name"
            autoFocus
            value={name.value}
            onInput={(event) => (name.value = event.currentTarget.value)}
          />
        </Field>
        <label class="check">
          <input
            type="checkbox"
            data-testid="save-checkpoint-pin"
            checked={isPinned.value}
            onChange={(event) => (isPinned.value = event.currentTarget.checked)}
          />
          Pin it
        </label>
      </DialogForm>
    </Dialog>
  );
}
