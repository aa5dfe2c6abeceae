import { useSignal, useSignalEffect } from "@preact/signals";
import { memo } from "preact/compat";
import { useEffect, useRef } from "preact/hooks";
import { extentOf } from "../charts/extent";
import { linesOf, shownRuns, type Detail } from "../charts/line";
import { Plot } from "../charts/plot";
import type { SessionModel } from "../store/session";
import { ChartReadings } from "./chart-readings";
import { useApp } from "./context";
import { useDetail } from "./use-detail";

/** One metric's chart; the plot is drawn at most once a frame, and only while in sight. */
export const ChartCard = memo(function ChartCard(props: { model: SessionModel; name: string }) {
  const { model, name } = props;
  const card = useRef<HTMLElement>(null);
  const canvas = useRef<HTMLDivElement>(null);
  const detail = useDetail(model, name, canvas);
  const latest = useSignal(model);
  latest.value = model;
  usePlot({ card, canvas, model: latest, name, detail });
  return (
    <figure
      ref={card}
      class="chart"
      data-testid="chart"
      data-metric={name}
      aria-label={`Chart of ${name}`}
    >
      <figcaption class="chart-head">
        <span class="chart-name" title={name}>
          {name}
        </span>
        <ChartReadings model={model} name={name} />
      </figcaption>
      <div ref={canvas} class="chart-canvas" />
    </figure>
  );
});

interface PlotParts {
  card: { current: HTMLElement | null };
  canvas: { current: HTMLDivElement | null };
  model: { value: SessionModel };
  name: string;
  detail: { value: Detail | null };
}

function usePlot({ card, canvas, model, name, detail }: PlotParts): void {
  const { dashboard, charts } = useApp();
  const plot = useRef<Plot | null>(null);
  const isInSight = useSignal(false);
  const drawn = useRef<{ model: SessionModel; state: string } | null>(null);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    plot.current = new Plot(element, {
      onHover: (step) => (charts.hover.value = step),
      onZoom: (range) => (charts.zoom.value = range),
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
  }, [canvas, charts, isInSight]);

  useSignalEffect(() => {
    dashboard.track();
    const shown = shownRuns(model.value, name, charts.hidden.value);
    const counts = shown.map(({ run, series }) => `${run} ${series.count}`);
    if (card.current) tell(card.current, shown);
    const range = charts.zoom.value ?? extentOf(model.value, charts.hidden.value);
    const smoothing = charts.smoothing.value;
    const dark = charts.dark.value;
    const state = JSON.stringify([counts, range, smoothing, dark, detail.value?.range]);
    const isDrawn = drawn.current?.model === model.value && drawn.current.state === state;
    if (!isInSight.value || isDrawn) return;
    drawn.current = { model: model.value, state };
    plot.current?.draw({ lines: linesOf(shown, detail.value), range, smoothing, dark });
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
