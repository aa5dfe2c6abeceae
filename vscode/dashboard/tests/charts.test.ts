import type uPlot from "uplot";
import { expect, test, vi } from "vitest";
import { align } from "../src/charts/align";
import { extentOf } from "../src/charts/extent";
import { isolatedPoints } from "../src/charts/isolated";
import { linesOf, shownMarkers, shownRuns } from "../src/charts/line";
import { drawMarkers } from "../src/charts/markers";
import { readingAt } from "../src/charts/nearest";
import { orderMetrics } from "../src/charts/order";
import { runStyle } from "../src/charts/palette";
import { valueRange } from "../src/charts/range";
import { rowHeight } from "../src/charts/rows";
import { smooth } from "../src/charts/smoothing";
import type { Marker, MarkerKind } from "../src/store/markers";
import { SessionModel } from "../src/store/session";
import { checkpointSaved, runSummary, sessionSummary, snapshot } from "./fixtures";

function twoRuns(): SessionModel {
  const runs = [runSummary(), runSummary({ name: "fork1", parents: ["baseline"] })];
  return new SessionModel(
    snapshot({
      session: sessionSummary({ runs }),
      series: [
        { run: "fork1", name: "loss", count: 2, steps: [2, 8], values: [5, 4] },
        { run: "baseline", name: "loss", count: 3, steps: [1, 2, 3], values: [3, 2, 1] },
        { run: "baseline", name: "lr", count: 1, steps: [9], values: [0.1] },
      ],
    }),
  );
}

test("charts are ordered from what matters most to what is merely fast", () => {
  expect(
    orderMetrics([
      "step_time",
      "samples_per_second",
      "lr",
      "grad_norm",
      "zeta",
      "val_accuracy",
      "accuracy",
      "gpu_memory_mb",
      "val_loss",
      "aux_loss",
      "loss",
    ]),
  ).toEqual([
    "loss",
    "val_loss",
    "aux_loss",
    "accuracy",
    "val_accuracy",
    "zeta",
    "grad_norm",
    "lr",
    "gpu_memory_mb",
    "samples_per_second",
    "step_time",
  ]);
});

test("what is measured of the machine stands behind what tells of the network", () => {
  expect(
    orderMetrics([
      "data_wait/share",
      "sys/ram",
      "gpu0/util",
      "step_time/p95",
      "update_ratio",
      "time_remaining",
      "zeta",
      "loss",
    ]),
  ).toEqual([
    "loss",
    "zeta",
    "update_ratio",
    "gpu0/util",
    "sys/ram",
    "data_wait/share",
    "step_time/p95",
    "time_remaining",
  ]);
});

test("runs keep their colour, and differ by dashes when colours run out", () => {
  const styles = Array.from({ length: 12 }, (_, place) => JSON.stringify(runStyle(place)));
  expect(new Set(styles).size).toBe(12);
});

test("runs stand in the order in which they came, without those left out", () => {
  const model = twoRuns();
  expect(shownRuns(model, "loss", new Set()).map(({ run }) => run)).toEqual(["baseline", "fork1"]);
  const [only] = shownRuns(model, "loss", new Set(["baseline"]));
  expect(only?.run).toBe("fork1");
  expect(only?.style).toEqual(runStyle(1));
});

test("all charts show the steps of all metrics", () => {
  const model = twoRuns();
  expect(extentOf(model, new Set())).toEqual({ from: 1, to: 9 });
  expect(extentOf(model, new Set(["baseline"]))).toEqual({ from: 2, to: 8 });
  expect(extentOf(model, new Set(["baseline", "fork1"]))).toBeNull();
});

test("a line takes the detail of its run", () => {
  const shown = shownRuns(twoRuns(), "loss", new Set());
  const detail = {
    range: { from: 2, to: 3 },
    runs: new Map([["baseline", { steps: [2, 3], values: [20, 10] }]]),
    rewinds: 0,
  };
  const [baseline, fork] = linesOf(shown, detail);
  expect(baseline?.points.values).toEqual([3, 20, 10]);
  expect(fork?.points.values).toEqual([5, 4]);
});

test("series are aligned over the union of their steps", () => {
  const a = { steps: [1, 2, 4], values: [1, null, 3] };
  const b = { steps: [2, 3], values: [5, 6] };
  expect(align([a, b])).toEqual({
    steps: [1, 2, 3, 4],
    columns: [
      [1, null, undefined, 3],
      [undefined, 5, 6, undefined],
    ],
  });
  expect(align([])).toEqual({ steps: [], columns: [] });
});

test("a single series is copied, since it goes on growing", () => {
  const series = { steps: [1, 2], values: [1, 2] };
  const aligned = align([series]);
  series.steps.push(3);
  expect(aligned.steps).toEqual([1, 2]);
});

test("a value is read at the nearest step", () => {
  const points = { steps: [10, 20, 30], values: [1, null, 3] };
  expect(readingAt(points, null)).toEqual({ step: 30, value: 3 });
  expect(readingAt(points, 14)).toEqual({ step: 10, value: 1 });
  expect(readingAt(points, 16)).toEqual({ step: 20, value: null });
  expect(readingAt(points, 38)).toEqual({ step: 30, value: 3 });
  expect(readingAt(points, 90)).toBeUndefined();
  expect(readingAt({ steps: [], values: [] }, null)).toBeUndefined();
});

test("smoothing starts at the data, leaves a constant alone and keeps gaps", () => {
  const steps = [1, 2, 3, 4];
  expect(smooth({ steps, values: [5, 5, null, 5] }, 10)).toEqual([5, 5, null, 5]);
  const [first, second] = smooth({ steps, values: [4, 8, 8, 8] }, 10);
  expect(first).toBeCloseTo(4);
  expect(second).toBeGreaterThan(5.5);
  expect(second).toBeLessThan(6.5);
});

test("smoothing forgets half within its half-life, however dense the points are", () => {
  const dense = Array.from({ length: 2001 }, (_, step) => step);
  const at = (steps: number[]) =>
    smooth({ steps, values: steps.map((step) => (step <= 1000 ? 0 : 1)) }, 50);
  const sparse = dense.filter((step) => step % 10 === 0);
  expect(at(dense)[1050]).toBeCloseTo(0.5, 1);
  expect(at(sparse)[105]).toBeCloseTo(0.5, 1);
});

test("points that no line reaches are found", () => {
  const plotOf = (column: (number | null | undefined)[]) =>
    ({ data: [column.map((_, index) => index), column] }) as unknown as uPlot;
  expect(isolatedPoints(plotOf([1, 2, 3]), 1, false)).toBeNull();
  expect(isolatedPoints(plotOf([1, null, undefined, 3, null, 4, 5]), 1, false)).toEqual([0, 3]);
  expect(isolatedPoints(plotOf([null, 2]), 1, false)).toEqual([1]);
  expect(isolatedPoints(plotOf([null, 2]), 1, true)).toBeNull();
});

test("markers of runs that are left out are left out too", () => {
  const checkpoints = [checkpointSaved(), checkpointSaved({ run: "fork1" })];
  const model = new SessionModel(snapshot({ checkpoints }));
  expect(shownMarkers(model, new Set())).toHaveLength(2);
  expect(shownMarkers(model, new Set(["fork1"])).map(({ run }) => run)).toEqual(["baseline"]);
});

/** Draws markers on a plot whose pixels are its steps, and returns where lines and shapes begin. */
function drawn(...markers: [MarkerKind, number][]) {
  const at: { strokes: number[]; fills: number[] } = { strokes: [], fills: [] };
  let begun: number[] = [];
  const ctx = {
    save: vi.fn(),
    restore: vi.fn(),
    setLineDash: vi.fn(),
    closePath: vi.fn(),
    lineTo: vi.fn(),
    arc: vi.fn(),
    beginPath: () => (begun = []),
    moveTo: (x: number) => begun.push(x),
    rect: (x: number) => begun.push(x),
    stroke: () => at.strokes.push(...begun),
    fill: () => at.fills.push(...begun.map(Math.round)),
  };
  const plot = {
    ctx,
    scales: { x: { min: 0, max: 100 } },
    bbox: { top: 20, height: 100 },
    valToPos: (step: number) => step,
  };
  vi.stubGlobal("devicePixelRatio", 1);
  const items = markers.map(([kind, step]): Marker => {
    return { key: `${kind} ${step}`, kind, run: "baseline", step, time: 0, text: "" };
  });
  drawMarkers(plot as unknown as uPlot, items, { text: "", grid: "", color: () => "" });
  vi.unstubAllGlobals();
  return at;
}

test("markers are drawn in sight, each with its line", () => {
  expect(drawn(["note", 10], ["test", 50], ["note", 101]).strokes).toEqual([10, 50]);
});

test("where shapes would overlap, that of what matters most is drawn, and all of the lines", () => {
  const { strokes, fills } = drawn(["checkpoint", 50], ["guard", 50], ["checkpoint", 80]);
  expect(strokes).toEqual([50, 50, 80]);
  expect(fills).toEqual([50, 78]);
});

test("lines that would be one smear are drawn once", () => {
  const many = Array.from({ length: 100 }, (_, step): [MarkerKind, number] => ["guard", step]);
  expect(drawn(...many).strokes).toHaveLength(34);
});

test("a constant is smoothed to itself exactly, however its rounding errors add up", () => {
  const steps = Array.from({ length: 3000 }, (_, step) => step + 1);
  const smoothed = smooth({ steps, values: steps.map(() => 0.001) }, 123.4);
  expect(new Set(smoothed)).toEqual(new Set([0.001]));
});

test("values have a little air around them, and none below zero", () => {
  expect(valueRange(null, null)).toEqual([0, 1]);
  expect(valueRange(0, 100)).toEqual([0, 106]);
  expect(valueRange(-10, 90)).toEqual([-16, 96]);
});

test("a constant has a range of its own, and what is only noise does not widen or narrow it", () => {
  const [low, high] = valueRange(0.001, 0.001);
  expect([low, high]).toEqual([expect.closeTo(0.000905), expect.closeTo(0.001105)]);
  const noisy = valueRange(0.001, 0.001 * (1 + 3e-8));
  expect(noisy[0]).toBeCloseTo(low, 9);
  expect(noisy[1]).toBeCloseTo(high, 9);
  expect(valueRange(-2, -2)).toEqual([expect.closeTo(-2.19), expect.closeTo(-1.79)]);
  expect(valueRange(0, 0)).toEqual([0, 1]);
});

test("rows of charts share the room evenly where all of them fit", () => {
  expect(rowHeight({ room: 1000, rows: 4, gap: 12, below: 20 })).toBe(236);
  expect(rowHeight({ room: 1000, rows: 1, gap: 12, below: 20 })).toBe(460);
});

test("where not all rows fit, whole ones do, and the edge of the next", () => {
  const height = rowHeight({ room: 446, rows: 3, gap: 12, below: 20 });
  expect(height).toBe(207);
  expect(446 - (2 * height + 2 * 12)).toBeGreaterThan(4);
  expect(446 - (2 * height + 2 * 12)).toBeLessThan(10);
  expect(rowHeight({ room: 318, rows: 3, gap: 12, below: 20 })).toBe(299);
  expect(rowHeight({ room: 40, rows: 3, gap: 12, below: 20 })).toBe(160);
});
