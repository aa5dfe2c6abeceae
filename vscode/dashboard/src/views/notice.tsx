import type { ComponentChildren } from "preact";
import { CrossIcon } from "./icons";

/** One thing that needs attention. */
export function Notice(props: {
  tone?: "danger" | "warning";
  testid?: string;
  onDismiss?: () => void;
  children: ComponentChildren;
}) {
  return (
    <div class="notice" data-tone={props.tone} data-testid={props.testid}>
      <div class="notice-text">{props.children}</div>
      {props.onDismiss && (
        <button type="button" class="icon-button" aria-label="Dismiss" onClick={props.onDismiss}>
          <CrossIcon />
        </button>
      )}
    </div>
  );
}
