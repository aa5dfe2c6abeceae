import uPlot from "uplot";
import { formatAxis } from "../format/measure";
import { formatCount } from "../format/number";
import type { Points } from "../store/decimate";
import type { StepRange } from "../store/detail";
import type { Marker } from "../store/markers";
import { align } from "./align";
import { isolatedPoints } from "./isolated";
import type { Line } from "./line";
import { drawMarkers, MARKER_ROOM, markersNear } from "./markers";
import { drawNonFinite } from "./nonfinite";
import { valueRange } from "./range";
import { halfLifeOf, smooth } from "./smoothing";
import { readTheme, type ChartTheme } from "./theme";

export interface Picture {
  lines: readonly Line[];
  /** What happened, ascending by step. */
  markers: readonly Marker[];
  /** The steps to show; `null` shows those of the lines. */
  range: StepRange | null;
  /** Between 0 (as measured) and 1. */
  smoothing: number;
  /** Whether dark colours are in force. */
  dark: boolean;
}

export interface PlotListener {
  /** The pointer is over a step; `null` when it left. */
  onHover(step: number | null): void;
  /** A range was dragged over; `null` after a double click. */
  onZoom(range: StepRange | null): void;
  /** The pointer is at markers that stand `left` pixels from the left; none when it is not. */
  onMarkers(markers: readonly Marker[], left: number): void;
}

const FONT = '11px system-ui, -apple-system, "Segoe UI", sans-serif';
const FAINT = 0.28;
/** A drag shorter than this is a click. */
const SHORTEST_DRAG_PX = 4;

/** A line chart over steps on a canvas. */
export class Plot {
  readonly #element: HTMLElement;
  readonly #metric: string;
  readonly #listener: PlotListener;
  #picture: Picture = { lines: [], markers: [], range: null, smoothing: 0, dark: false };
  #plot: uPlot | null = null;
  /** What the plot was built for; another shape needs another plot. */
  #shape = "";
  /** Whether the pointer is over this plot, whose cursor then leads the others. */
  #isLeading = false;

  constructor(element: HTMLElement, metric: string, listener: PlotListener) {
    this.#element = element;
    this.#metric = metric;
    this.#listener = listener;
  }

  draw(picture: Picture): void {
    this.#picture = picture;
    const shape = shapeOf(picture);
    if (!this.#plot || shape !== this.#shape) {
      this.#shape = shape;
      this.#build();
    } else {
      this.#plot.setData(columnsOf(picture));
      // The steps have moved below a pointer that has not.
      if (this.#isLeading) this.#tellHover(this.#plot);
    }
  }

  resize(): void {
    this.#plot?.setSize(this.#size());
  }

  /** Show the cursor at a step, as another chart's pointer has it. */
  pointAt(step: number | null): void {
    const plot = this.#plot;
    if (!plot || this.#isLeading) return;
    const left = step === null ? -10 : plot.valToPos(step, "x");
    plot.setCursor({ left, top: step === null ? -10 : 0 }, false);
  }

  destroy(): void {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #build(): void {
    this.#plot?.destroy();
    this.#isLeading = false;
    const theme = readTheme(this.#element);
    this.#plot = new uPlot(
      {
        ...this.#size(),
        legend: { show: false },
        padding: [MARKER_ROOM, (plot) => roomAtEnd(plot), 0, 0],
        scales: {
          x: { time: false, range: (_, low, high) => this.#stepRange(low, high) },
          y: { range: (_, low, high) => valueRange(low, high) },
        },
        axes: axesOf(theme, this.#metric),
        series: [{}, ...seriesOf(this.#picture, theme)],
        cursor: {
          y: false,
          drag: { x: true, y: false, setScale: false, dist: SHORTEST_DRAG_PX },
          points: { size: 6, width: 0 },
          bind: { dblclick: () => () => this.#resetZoom() },
        },
        hooks: {
          setSelect: [(plot) => this.#select(plot)],
          // Below the lines, which nothing may cover.
          drawAxes: [(plot) => drawMarkers(plot, this.#picture.markers, theme)],
          draw: [(plot) => drawNonFinite(plot, this.#picture.lines, theme)],
        },
      },
      columnsOf(this.#picture),
      this.#element,
    );
    this.#listenTo(this.#plot);
  }

  #listenTo(plot: uPlot): void {
    plot.over.addEventListener("mousemove", () => {
      this.#isLeading = true;
      this.#tellHover(plot);
    });
    plot.over.addEventListener("mouseleave", () => {
      this.#isLeading = false;
      this.#listener.onHover(null);
      this.#listener.onMarkers([], 0);
    });
  }

  #tellHover(plot: uPlot): void {
    const left = plot.cursor.left ?? -1;
    this.#listener.onHover(left < 0 ? null : Math.round(plot.posToVal(left, "x")));
    const stepsPerPixel = plot.posToVal(1, "x") - plot.posToVal(0, "x");
    const near = markersNear(this.#picture.markers, plot.posToVal(left, "x"), stepsPerPixel);
    const step = near[0]?.step;
    const place = step === undefined ? 0 : plot.over.offsetLeft + plot.valToPos(step, "x");
    this.#listener.onMarkers(left < 0 ? [] : near, place);
  }

  #size(): { width: number; height: number } {
    return { width: this.#element.clientWidth, height: this.#element.clientHeight };
  }

  #stepRange(low: number | null, high: number | null): [number, number] {
    const { range } = this.#picture;
    const from = range?.from ?? low ?? 0;
    const to = range?.to ?? high ?? 1;
    return from < to ? [from, to] : [from - 1, to + 1];
  }

  #select(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < SHORTEST_DRAG_PX) return;
    const from = Math.floor(plot.posToVal(left, "x"));
    const to = Math.ceil(plot.posToVal(left + width, "x"));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (to > from) this.#listener.onZoom({ from, to });
  }

  #resetZoom(): null {
    this.#listener.onZoom(null);
    return null;
  }
}

function shapeOf({ lines, smoothing, dark }: Picture): string {
  const runs = lines.map((line) => `${line.run} ${line.style.color} ${line.style.dash.join(",")}`);
  return [dark ? "dark" : "light", smoothing > 0 ? "smooth" : "raw", ...runs].join("|");
}

/** Measured values first, for all runs; then, over them, the smoothed ones. */
function columnsOf({ lines, range, smoothing }: Picture): uPlot.AlignedData {
  const measured = lines.map((line) => line.points);
  const all = smoothing > 0 ? measured.concat(measured.map(smoothed)) : measured;
  const { steps, columns } = align(all);
  return [steps, ...columns];

  function smoothed(points: Points): Points {
    const first = range?.from ?? points.steps[0] ?? 0;
    const last = range?.to ?? points.steps.at(-1) ?? 0;
    return { steps: points.steps, values: smooth(points, halfLifeOf(smoothing, last - first)) };
  }
}

function seriesOf({ lines, smoothing }: Picture, theme: ChartTheme): uPlot.Series[] {
  const measured = lines.map((line) => ({
    ...strokeOf(line, theme),
    width: smoothing > 0 ? 1 : 1.3,
    alpha: smoothing > 0 ? FAINT : 1,
    points: { size: 5, fill: theme.color(line.style.color), filter: isolatedPoints },
  }));
  if (smoothing === 0) return measured;
  return measured.concat(
    lines.map((line) => ({
      ...strokeOf(line, theme),
      width: 1.75,
      alpha: 1,
      points: { size: 5, fill: theme.color(line.style.color), filter: isolatedPoints },
    })),
  );
}

function strokeOf({ style }: Line, theme: ChartTheme): { stroke: string; dash?: number[] } {
  const stroke = theme.color(style.color);
  return style.dash.length > 0 ? { stroke, dash: [...style.dash] } : { stroke };
}

function axesOf(theme: ChartTheme, metric: string): uPlot.Axis[] {
  const common: uPlot.Axis = {
    stroke: theme.text,
    font: FONT,
    ticks: { show: false },
  };
  return [
    {
      ...common,
      size: 22,
      gap: 6,
      // Room for the longest label and some air.
      space: (_, __, ___, last) => Math.max(64, 7 * formatCount(last).length + 22),
      values: (_, ticks) => ticks.map(formatCount),
      grid: { show: false },
      border: { show: true, stroke: theme.grid, width: 1 },
      // Steps are whole numbers, and so are their labels.
      incrs: wholeIncrements(),
    },
    {
      ...common,
      gap: 8,
      space: 26,
      values: (_, ticks, __, ___, increment) => formatAxis(metric, ticks, increment),
      size: (plot, labels) => widthOf(plot, labels),
      grid: { stroke: theme.grid, width: 1 },
    },
  ];
}

/** Room for the half of a last label of the steps that reaches beyond the plot. */
function roomAtEnd(plot: uPlot): number {
  return Math.max(18, 3.5 * formatCount(plot.scales.x?.max ?? 0).length + 4);
}

function wholeIncrements(): number[] {
  return Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((unit) => unit * 10 ** power)).flat();
}

/** As wide as the labels, but alike for most charts, so that plots stand below each other. */
function widthOf(plot: uPlot, labels: readonly string[] | null): number {
  plot.ctx.save();
  plot.ctx.font = FONT.replace("11px", `${11 * devicePixelRatio}px`);
  const widths = (labels ?? []).map((label) => plot.ctx.measureText(label).width);
  plot.ctx.restore();
  return Math.max(44, Math.ceil(Math.max(0, ...widths) / devicePixelRatio) + 14);
}
