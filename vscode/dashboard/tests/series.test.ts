import { expect, test } from "vitest";
import { decimate } from "../src/store/decimate";
import { withDetail } from "../src/store/detail";
import { Series } from "../src/store/series";

function grown(length: number, value: (step: number) => number | null): Series {
  const series = new Series();
  for (let step = 1; step <= length; step += 1) series.append(step, value(step));
  return series;
}

test("a short series is kept as it came", () => {
  const series = grown(1000, Math.sin);
  expect(series.length).toBe(1000);
  expect(series.isThinned).toBe(false);
});

test("memory stays bounded while the count goes on", () => {
  const series = grown(100_000, Math.sin);
  expect(series.count).toBe(100_000);
  expect(series.length).toBeLessThanOrEqual(Series.LIMIT);
  expect(series.isThinned).toBe(true);
});

test("extremes, ends and non-finite values survive thinning, again and again", () => {
  const odd = new Map<number, number | null>([
    [777, 99],
    [778, -99],
    [30_001, null],
  ]);
  const series = grown(100_000, (step) => odd.get(step) ?? (odd.has(step) ? null : Math.sin(step)));
  const valueAt = (step: number) => series.values[series.steps.indexOf(step)];
  expect(valueAt(777)).toBe(99);
  expect(valueAt(778)).toBe(-99);
  expect(valueAt(30_001)).toBeNull();
  expect(series.steps[0]).toBe(1);
  expect(series.lastStep).toBe(100_000);
});

test("the newest points are never thinned, and the rest evenly", () => {
  const series = grown(100_000, Math.sin);
  expect(series.steps.slice(-Series.RECENT)).toEqual(
    Array.from({ length: Series.RECENT }, (_, i) => 100_000 - Series.RECENT + 1 + i),
  );
  const gaps = series.steps.slice(1).map((step, i) => step - (series.steps[i] ?? 0));
  expect(Math.max(...gaps)).toBeLessThan(200);
});

test("steps stay ascending and unique when points come late or twice", () => {
  const series = new Series();
  for (const step of [1, 2, 5, 3, 5, 9]) series.append(step, step * (step === 5 ? 10 : 1));
  expect(series.steps).toEqual([1, 2, 3, 5, 9]);
  expect(series.values).toEqual([1, 2, 3, 50, 9]);
  expect(series.count).toBe(6);
});

test("a series from a snapshot goes on counting from the snapshot's count", () => {
  const series = Series.of({ steps: [1, 500], values: [2, null] }, 500);
  series.append(501, 1);
  expect(series.count).toBe(501);
  expect(series.length).toBe(3);
  expect(series.isThinned).toBe(true);
});

test("decimation changes nothing that is short enough", () => {
  const points = { steps: [1, 2, 3], values: [1, 2, 3] };
  expect(decimate(points, 3)).toBe(points);
});

test("detail replaces its range and leaves what came before and after", () => {
  const series = { steps: [0, 10, 20, 30, 40], values: [0, 1, 2, 3, 4] };
  const detail = { steps: [10, 12, 14, 20], values: [1, 1.2, 1.4, 2] };
  expect(withDetail(series, detail, { from: 10, to: 22 })).toEqual({
    steps: [0, 10, 12, 14, 20, 30, 40],
    values: [0, 1, 1.2, 1.4, 2, 3, 4],
  });
  expect(withDetail(series, { steps: [], values: [] }, { from: 10, to: 22 })).toBe(series);
});
