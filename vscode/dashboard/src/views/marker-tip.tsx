import { formatCount } from "../format/number";
import type { Marker, MarkerKind } from "../store/markers";

export interface PointedMarkers {
  markers: readonly Marker[];
  /** Where they stand in the chart, in pixels from its left. */
  left: number;
  /** How wide the chart is. */
  width: number;
}

/** Between the markers and their tip. */
const GAP_PX = 8;

const NAMES: Record<MarkerKind, string> = {
  checkpoint: "Checkpoint",
  test: "Test",
  pause: "Paused",
  note: "Note",
  hyperparameters: "Hyperparameters",
  rewind: "Rewound",
  guard: "Guard",
};

/** Says what the markers under the pointer are. */
export function MarkerTip(props: { pointed: PointedMarkers; runs: number }) {
  const { markers, left, width } = props.pointed;
  const [first] = markers;
  if (!first) return null;
  // To the side where there is more room, and no wider than that.
  const isLate = left > width / 2;
  const room = (isLate ? left : width - left) - GAP_PX;
  const place = isLate ? { right: `${width - left + GAP_PX}px` } : { left: `${left + GAP_PX}px` };
  return (
    <div
      class="marker-tip"
      data-testid="marker-tip"
      role="status"
      style={{ ...place, maxWidth: `${Math.min(300, room)}px` }}
    >
      <p class="marker-tip-step">Step {formatCount(first.step)}</p>
      {markers.map((marker) => (
        <p key={marker.key} data-kind={marker.kind}>
          <strong>{NAMES[marker.kind]}</strong>
          {props.runs > 1 && ` \u00b7 ${marker.run}`}
          {marker.text !== "" && ` \u00b7 ${marker.text}`}
        </p>
      ))}
    </div>
  );
}
