import { useEffect, useState } from "preact/hooks";
import { useApp } from "./context";
import { CheckIcon, CopyIcon } from "./icons";

type Outcome = "none" | "copied" | "failed";

const LABELS: Record<Outcome, string> = {
  none: "Copy",
  copied: "Copied",
  failed: "Not allowed here: select and copy",
};

/** Puts a text on the clipboard, and says for a moment that it did. */
export function CopyButton(props: { text: string }) {
  const { host } = useApp();
  const [outcome, setOutcome] = useState<Outcome>("none");
  useEffect(() => {
    if (outcome === "none") return undefined;
    const timer = setTimeout(() => setOutcome("none"), 2500);
    return () => clearTimeout(timer);
  }, [outcome]);
  const copy = (): void => {
    host.copy(props.text).then(
      () => setOutcome("copied"),
      () => setOutcome("failed"),
    );
  };
  return (
    <button type="button" class="text-button" onClick={copy}>
      {outcome === "copied" ? <CheckIcon /> : <CopyIcon />}
      <span aria-live="polite">{LABELS[outcome]}</span>
    </button>
  );
}
