import { formatCount } from "../format/number";
import { formatSpan } from "../format/time";
import type { StallNoticed } from "../wire/types";
import { Notice } from "./notice";

/** That nothing moves, since when, and where the training thread is. */
export function StallBanner(props: { stall: StallNoticed }) {
  const { step, phase, seconds, stack } = props.stall;
  return (
    <Notice tone="warning" testid="stall">
      Nothing has moved for {formatSpan(seconds)} or more in the phase &ldquo;{phase}&rdquo;, at
      step {formatCount(step)}. Nothing is done about it: it may only take long.
      {stack !== "" && (
        <details class="stack">
          <summary>Where the training thread is</summary>
          <pre tabIndex={0}>{stack}</pre>
        </details>
      )}
    </Notice>
  );
}
