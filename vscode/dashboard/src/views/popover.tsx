import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

/** A button with a small panel below it: Escape, or anything outside, closes it. */
export function Popover(props: {
  /** What the panel is called, and the button too unless it shows a text. */
  label: string;
  button: ComponentChildren;
  buttonClass: string;
  testid: string;
  title?: string | undefined;
  /** Whether it lies over everything, for what stands in a part of the page that scrolls. */
  isFixed?: boolean;
  children: (close: () => void) => ComponentChildren;
}) {
  const isOpen = useSignal(false);
  const root = useRef<HTMLSpanElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const close = (): void => {
    // Focus on something in the panel would be lost with it.
    if (root.current?.contains(document.activeElement)) button.current?.focus();
    isOpen.value = false;
  };

  useEffect(() => {
    if (!isOpen.value) return undefined;
    const onPointer = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) isOpen.value = false;
    };
    document.addEventListener("pointerdown", onPointer);
    return () => document.removeEventListener("pointerdown", onPointer);
  }, [isOpen, isOpen.value]);

  const panel = useRef<HTMLDivElement>(null);
  const { isFixed = false } = props;
  useLayoutEffect(() => {
    if (!isFixed || !isOpen.value || !button.current || !panel.current) return undefined;
    place(panel.current, button.current);
    // It stays where it is put: when what it belongs to moves away, it goes.
    const onMove = (): void => {
      isOpen.value = false;
    };
    document.addEventListener("scroll", onMove, true);
    window.addEventListener("resize", onMove);
    return () => {
      document.removeEventListener("scroll", onMove, true);
      window.removeEventListener("resize", onMove);
    };
  }, [isFixed, isOpen, isOpen.value]);

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && isOpen.value) {
      event.stopPropagation();
      close();
    }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (moveFocus(root.current, event.key === "ArrowDown" ? 1 : -1)) event.preventDefault();
    }
  };

  return (
    <span
      ref={root}
      class="popover-root"
      onKeyDown={onKeyDown}
      onFocusOut={(event) => {
        const next = event.relatedTarget as Node | null;
        if (next && !root.current?.contains(next)) isOpen.value = false;
      }}
    >
      <button
        ref={button}
        type="button"
        class={props.buttonClass}
        data-testid={props.testid}
        aria-label={props.label}
        aria-expanded={isOpen.value}
        title={props.title}
        onClick={() => (isOpen.value = !isOpen.value)}
      >
        {props.button}
      </button>
      {isOpen.value && (
        <div
          ref={panel}
          class={isFixed ? "popover popover-fixed" : "popover"}
          role="group"
          aria-label={props.label}
        >
          {props.children(close)}
        </div>
      )}
    </span>
  );
}

const MARGIN = 8;

/** Put a panel below a button, or above it where there is no room, inside the window. */
function place(panel: HTMLElement, button: HTMLElement): void {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = panel;
  const below = at.bottom + 4;
  const top = below + height + MARGIN > window.innerHeight ? at.top - height - 4 : below;
  panel.style.top = `${Math.max(MARGIN, top)}px`;
  panel.style.left = `${Math.max(MARGIN, Math.min(at.left, window.innerWidth - width - MARGIN))}px`;
}

/** Move the focus to the next button that can be pressed; `false` when there is none. */
function moveFocus(root: HTMLElement | null, by: 1 | -1): boolean {
  const buttons = [...(root?.querySelectorAll<HTMLButtonElement>("button:not([disabled])") ?? [])];
  if (buttons.length < 2) return false;
  const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
  buttons.at((at + by) % buttons.length)?.focus();
  return true;
}
