import { runStyle } from "../charts/palette";
import { formatCount } from "../format/number";
import { epochAt } from "../store/epochs";
import type { SessionModel } from "../store/session";
import { useApp, useDashboard } from "./context";
import { CrossIcon, MarkersIcon } from "./icons";
import { Swatch } from "./swatch";

/** What applies to all charts: the runs shown, the range of steps, the smoothing. */
export function ChartToolbar(props: { model: SessionModel }) {
  return (
    <div class="chart-toolbar">
      <Runs model={props.model} />
      <ZoomChip />
      <Hover model={props.model} />
      <MarkersToggle />
      <Smoothing />
    </div>
  );
}

function Runs(props: { model: SessionModel }) {
  const { charts } = useApp();
  useDashboard();
  const runs = [...props.model.runs.keys()];
  if (runs.length < 2) return null;
  return (
    <div class="run-chips" role="group" aria-label="Shown runs">
      {runs.map((run, place) => (
        <button
          key={run}
          type="button"
          class="run-chip"
          aria-pressed={!charts.hidden.value.has(run)}
          onClick={() => charts.toggleRun(run)}
        >
          <Swatch style={runStyle(place)} />
          {run}
        </button>
      ))}
    </div>
  );
}

/** The step that all charts read their values at, or what else the pointer could do. */
function Hover(props: { model: SessionModel }) {
  const { charts } = useApp();
  const hover = charts.hover.value;
  if (hover !== null) {
    const { currentRun, epochs } = props.model;
    const epoch = currentRun && epochAt(epochs, currentRun.name, hover);
    return (
      <span class="toolbar-step">
        At step {formatCount(hover)}
        {epoch !== undefined && `, epoch ${epoch}`}
      </span>
    );
  }
  if (charts.zoom.value) return null;
  return <span class="toolbar-hint">Drag over a chart to zoom in</span>;
}

function ZoomChip() {
  const { charts } = useApp();
  const zoom = charts.zoom.value;
  if (!zoom) return null;
  return (
    <button type="button" class="run-chip" onClick={() => (charts.zoom.value = null)}>
      Steps {formatCount(zoom.from)}&ndash;{formatCount(zoom.to)}
      <CrossIcon />
      <span class="visually-hidden">Show all steps</span>
    </button>
  );
}

function MarkersToggle() {
  const { charts } = useApp();
  const isOn = charts.markers.value;
  return (
    <button
      type="button"
      class="run-chip markers-toggle"
      data-testid="markers"
      aria-pressed={isOn}
      title="Changes, rewinds, notes, guards, pauses, tests and checkpoints, as lines in the charts"
      onClick={() => (charts.markers.value = !isOn)}
    >
      <MarkersIcon />
      Markers
    </button>
  );
}

function Smoothing() {
  const { charts } = useApp();
  const percent = Math.round(charts.smoothing.value * 100);
  return (
    <label class="smoothing">
      Smoothing
      <input
        type="range"
        min="0"
        max="100"
        step="5"
        value={percent}
        onInput={(event) => (charts.smoothing.value = event.currentTarget.valueAsNumber / 100)}
      />
      <output>{percent === 0 ? "off" : `${percent} %`}</output>
    </label>
  );
}
