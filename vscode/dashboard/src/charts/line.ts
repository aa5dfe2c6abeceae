import type { Points } from "../store/decimate";
import { withDetail, type StepRange } from "../store/detail";
import type { Marker } from "../store/markers";
import type { Series } from "../store/series";
import type { SessionModel } from "../store/session";
import { runStyle, type RunStyle } from "./palette";

/** One run's series in a chart. */
export interface Line {
  run: string;
  style: RunStyle;
  points: Points;
}

/** A finer look at some runs' series within a range of steps. */
export interface Detail {
  range: StepRange;
  runs: ReadonlyMap<string, Points>;
  /** How often the session had been rewound by then: what was loaded before is out of date. */
  rewinds: number;
}

/** The runs that a chart shows, in the order in which they came into being. */
export function shownRuns(
  model: SessionModel,
  metric: string,
  hidden: ReadonlySet<string>,
): { run: string; style: RunStyle; series: Series }[] {
  const series = model.metrics.runs(metric);
  return [...model.runs.keys()].flatMap((run, place) => {
    const one = series.get(run);
    return one && !hidden.has(run) ? [{ run, style: runStyle(place), series: one }] : [];
  });
}

/** What to draw for the shown runs, with the detail where there is one. */
export function linesOf(shown: ReturnType<typeof shownRuns>, detail: Detail | null): Line[] {
  return shown.map(({ run, style, series }) => {
    const finer = detail?.runs.get(run);
    return { run, style, points: finer && detail ? withDetail(series, finer, detail.range) : series };
  });
}

/** What happened in the shown runs, ascending by step. */
export function shownMarkers(
  model: SessionModel,
  hidden: ReadonlySet<string>,
): readonly Marker[] {
  const all = model.markers.items();
  return hidden.size === 0 ? all : all.filter(({ run }) => !hidden.has(run));
}
