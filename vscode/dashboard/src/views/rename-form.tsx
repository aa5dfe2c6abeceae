import { useSignal } from "@preact/signals";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { RequestError } from "../transport/transport";
import type { SessionSummary } from "../wire/types";
import { useApp } from "./context";

/** A session's name, in place of its entry in the list: Enter keeps it, Escape does not. */
export function RenameForm(props: { session: SessionSummary; onClose: () => void }) {
  const { session } = props;
  const { dashboard } = useApp();
  const input = useRef<HTMLInputElement>(null);
  const name = useSignal(session.name ?? "");
  const problem = useSignal<string | null>(null);
  const isSending = useSignal(false);
  const about = useId();
  useLayoutEffect(() => {
    input.current?.focus();
    input.current?.select();
  }, []);
  const send = async (): Promise<void> => {
    isSending.value = true;
    try {
      await dashboard.rename(session.id, name.value.trim());
      props.onClose();
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      problem.value = error.message;
      isSending.value = false;
      input.current?.focus();
    }
  };
  return (
    <form
      class="session-rename"
      data-testid="rename-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (!isSending.value) void send();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        // It would close the drawer.
        event.stopPropagation();
        props.onClose();
      }}
    >
      <input
        ref={input}
        class="input"
        type="text"
        data-testid="rename-input"
        aria-label={`Name of ${session.project}`}
        aria-describedby={about}
        aria-invalid={problem.value !== null}
        placeholder={session.project}
        maxLength={100}
        value={name.value}
        onInput={(event) => {
          name.value = event.currentTarget.value;
          problem.value = null;
        }}
      />
      <p id={about} class={problem.value === null ? "field-hint" : "job-error"} role="alert" data-testid="rename-problem">
        {problem.value ?? "Empty: it is called as its project is."}
      </p>
      <div class="session-rename-buttons">
        <button type="button" class="text-button" onClick={props.onClose}>
          Cancel
        </button>
        <button type="submit" class="text-button" data-testid="rename-confirm">
          Rename
        </button>
      </div>
    </form>
  );
}
