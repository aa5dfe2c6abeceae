import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";

/** A modal dialog that is open for as long as it is rendered; Escape asks to close it. */
export function Dialog(props: {
  title: string;
  testid: string;
  isWide?: boolean;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    // Closing rather than vanishing gives the focus back to where it was.
    return () => element?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      class={props.isWide ? "dialog dialog-wide" : "dialog"}
      data-testid={props.testid}
      aria-labelledby={title}
      onClose={() => {
        if (dialog.current) props.onClose();
      }}
    >
      <h2 id={title}>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

/** The form in a dialog: what is wrong with it, why it cannot be sent, and its two buttons. */
export function DialogForm(props: {
  submit: string;
  testid: string;
  isDangerous?: boolean;
  dismiss?: string;
  /** Why it cannot be sent whatever it says. */
  why: string | null;
  onCancel: () => void;
  /** Send it; returns what is wrong with it, or `null`. */
  onSubmit: () => string | null;
  children?: ComponentChildren;
}) {
  const problem = useSignal<string | null>(null);
  const { why } = props;
  const onSubmit = (event: Event): void => {
    event.preventDefault();
    if (why === null) problem.value = props.onSubmit();
  };
  return (
    <form noValidate onSubmit={onSubmit} onInput={() => (problem.value = null)}>
      {props.children}
      <p class="dialog-problem" role="alert" data-testid={`${props.testid}-problem`}>
        {problem.value}
      </p>
      {why !== null && <p class="dialog-why">{why}</p>}
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={props.onCancel}>
          {props.dismiss ?? "Cancel"}
        </button>
        <button
          type="submit"
          class={props.isDangerous ? "button button-danger" : "button button-primary"}
          data-testid={`${props.testid}-confirm`}
          disabled={why !== null}
        >
          {props.submit}
        </button>
      </div>
    </form>
  );
}

/** A labelled control of a form. */
export function Field(props: { label: string; hint?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span class="field-label">{props.label}</span>
      {props.children}
      {props.hint !== undefined && <span class="field-hint">{props.hint}</span>}
    </label>
  );
}
