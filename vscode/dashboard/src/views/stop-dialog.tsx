import type { RefObject } from "preact";

/** Asks before a run is ended, which cannot be taken back. */
export function StopDialog(props: {
  dialog: RefObject<HTMLDialogElement | null>;
  onConfirm: () => void;
}) {
  const close = (): void => props.dialog.current?.close();
  return (
    <dialog ref={props.dialog} class="dialog" aria-labelledby="stop-title">
      <h2 id="stop-title">Stop this run?</h2>
      <p>
        Training ends before its next step. A checkpoint is saved first, and your script goes on
        after the training loop.
      </p>
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={close}>
          Keep training
        </button>
        <button
          type="button"
          class="button button-danger"
          data-testid="stop-confirm"
          onClick={() => {
            close();
            props.onConfirm();
          }}
        >
          Stop the run
        </button>
      </div>
    </dialog>
  );
}
