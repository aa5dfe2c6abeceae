import type { RunStyle } from "../charts/palette";

/** A run's colour and dashes, as its lines have them. */
export function Swatch(props: { style: RunStyle }) {
  return (
    <svg class="swatch" viewBox="0 0 18 4" width="18" height="4" aria-hidden="true">
      <line
        x1="1"
        y1="2"
        x2="17"
        y2="2"
        style={{ stroke: `var(${props.style.color})` }}
        stroke-width="3"
        stroke-linecap={props.style.dash.length > 0 ? "butt" : "round"}
        stroke-dasharray={props.style.dash.join(" ")}
      />
    </svg>
  );
}
