import { useSignal, useSignalEffect } from "@preact/signals";
import { memo } from "preact/compat";
import { useEffect, useRef } from "preact/hooks";
import { extentOf } from "../charts/extent";
import { linesOf, shownMarkers, shownRuns, type Detail } from "../charts/line";
import { Plot } from "../charts/plot";
import { unitOf } from "../format/measure";
import type { SessionModel } from "../store/session";
import { ChartReadings } from "./chart-readings";
import { useApp } from "./context";
import { MarkerTip, type PointedMarkers } from "./marker-tip";
import { useDetail } from "./use-detail";

/** One metric's chart; the plot is drawn at most once a frame, and only while in sight. */
export const ChartCard = memo(function ChartCard(props: { model: SessionModel; name: string }) {
  const { model, name } = props;
  const unit = unitOf(name);
  const card = useRef<HTMLElement>(null);
  const canvas = useRef<HTMLDivElement>(null);
  const detail = useDetail(model, name, canvas);
  const latest = useSignal(model);
  const pointed = useSignal<PointedMarkers | null>(null);
  latest.value = model;
  usePlot({ card, canvas, model: latest, name, detail, pointed });
  return (
    <figure
      ref={card}
      class="chart"
      data-testid="chart"
      data-metric={name}
      aria-label={`Chart of ${name}`}
    >
      <figcaption class="chart-head">
        <span class="chart-name" title={unit === null ? name : `${name} in ${unit}`}>
          {name}
          {unit !== null && <span class="chart-unit">{unit}</span>}
        </span>
        <ChartReadings model={model} name={name} />
      </figcaption>
      <div class="chart-body">
        <div ref={canvas} class="chart-canvas" />
        {pointed.value && <MarkerTip pointed={pointed.value} runs={model.runs.size} />}
      </div>
    </figure>
  );
});

interface PlotParts {
  card: { current: HTMLElement | null };
  canvas: { current: HTMLDivElement | null };
  model: { value: SessionModel };
  name: string;
  detail: { value: Detail | null };
  pointed: { value: PointedMarkers | null };
}

function usePlot({ card, canvas, model, name, detail, pointed }: PlotParts): void {
  const { dashboard, charts } = useApp();
  const plot = useRef<Plot | null>(null);
  const isInSight = useSignal(false);
  const drawn = useRef<{ model: SessionModel; state: string } | null>(null);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    plot.current = new Plot(element, name, {
      onHover: (step) => (charts.hover.value = step),
      onZoom: (range) => (charts.zoom.value = range),
      onMarkers: (markers, left) => {
        const isAsBefore = pointed.value?.markers[0] === markers[0] && pointed.value?.left === left + element.offsetLeft;
        if (!isAsBefore) {
          const width = element.parentElement?.clientWidth ?? element.clientWidth;
          // The canvas begins a little right of the card's edge, from which tips are placed.
          const from = left + element.offsetLeft;
          pointed.value = markers.length === 0 ? null : { markers, left: from, width };
        }
      },
    });
    const sight = new IntersectionObserver(
      (entries) => (isInSight.value = entries.at(-1)?.isIntersecting ?? false),
      { rootMargin: "100px" },
    );
    const size = new ResizeObserver(() => plot.current?.resize());
    sight.observe(element);
    size.observe(element);
    return () => {
      sight.disconnect();
      size.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [canvas, charts, isInSight, name, pointed]);

  useSignalEffect(() => {
    dashboard.track();
    const shown = shownRuns(model.value, name, charts.hidden.value);
    const counts = shown.map(({ run, series }) => `${run} ${series.changes}`);
    const markers = charts.markers.value ? shownMarkers(model.value, charts.hidden.value) : [];
    if (card.current) tell(card.current, shown);
    const range = charts.zoom.value ?? extentOf(model.value, charts.hidden.value);
    const smoothing = charts.smoothing.value;
    const dark = charts.dark.value;
    const finer = detail.value?.rewinds === model.value.rewinds.length ? detail.value : null;
    const { changes } = model.value.markers;
    const drawing = [counts, range, smoothing, dark, finer?.range, markers.length, changes];
    const state = JSON.stringify(drawing);
    const isDrawn = drawn.current?.model === model.value && drawn.current.state === state;
    if (!isInSight.value || isDrawn) return;
    drawn.current = { model: model.value, state };
    plot.current?.draw({ lines: linesOf(shown, finer), markers, range, smoothing, dark });
    plot.current?.pointAt(charts.hover.peek());
  });

  useSignalEffect(() => {
    plot.current?.pointAt(charts.hover.value);
  });
}

/** What the plot holds, for whoever cannot read a canvas. */
function tell(card: HTMLElement, shown: ReturnType<typeof shownRuns>): void {
  const series = shown.map((one) => one.series);
  const lastStep = Math.max(...series.map((one) => one.lastStep ?? -Infinity));
  card.dataset.points = String(series.reduce((sum, one) => sum + one.length, 0));
  card.dataset.stepsSeen = String(series.reduce((sum, one) => sum + one.count, 0));
  card.dataset.lastStep = Number.isFinite(lastStep) ? String(lastStep) : "";
}
