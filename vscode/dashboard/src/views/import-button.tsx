import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { useApp } from "./context";

/** Asks for a bundle's file, and imports it. */
export function ImportButton(props: {
  class: string;
  testid: string;
  label?: string;
  onChosen?: () => void;
  children: ComponentChildren;
}) {
  const { dashboard } = useApp();
  const input = useRef<HTMLInputElement>(null);
  const onChange = (event: { currentTarget: HTMLInputElement }): void => {
    const chosen = event.currentTarget;
    for (const file of chosen.files ?? []) dashboard.jobs.import(file);
    props.onChosen?.();
    // So that the same file may be chosen again.
    chosen.value = "";
  };
  return (
    <>
      <button
        type="button"
        class={props.class}
        data-testid={props.testid}
        aria-label={props.label}
        title={props.label}
        onClick={() => input.current?.click()}
      >
        {props.children}
      </button>
      <input
        ref={input}
        type="file"
        accept=".zip,application/zip"
        hidden
        data-testid={`${props.testid}-file`}
        onChange={onChange}
      />
    </>
  );
}
