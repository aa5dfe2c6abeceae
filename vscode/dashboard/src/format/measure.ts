/** Measurements whose unit is known: those that the recorder itself derives for every run. */

import { formatTicks, formatValue } from "./number";

const TIMES = /^(step_time(\/p\d+)?|data_wait|time_remaining)$/;
const UNITS: readonly [RegExp, string][] = [
  [/^throughput$/, "samples/s"],
  [/^(sys\/(cpu|ram)|proc\/cpu|gpu\d+\/util)$/, "%"],
  [/^(proc\/ram|(gpu\d+|mps)\/(memory|memory_process|torch_\w+))$/, "B"],
  [/^gpu\d+\/temperature$/, "\u00b0C"],
  [/^gpu\d+\/power$/, "W"],
  [/^gpu\d+\/clock_(sm|memory)$/, "MHz"],
];
const MS_PER_SECOND = 1000;

/** The unit that stands beside a metric's name; `null` where none is known or values carry it. */
export function unitOf(metric: string): string | null {
  return UNITS.find(([pattern]) => pattern.test(metric))?.[1] ?? null;
}

/** A metric's value; one that is a time has its unit with it. */
export function formatReading(metric: string, value: number | null | undefined): string {
  if (!TIMES.test(metric) || value == null || !Number.isFinite(value)) return formatValue(value);
  const { factor, unit } = timeUnit(value);
  return `${formatValue(value * factor)} ${unit}`;
}

/** The labels of a metric's axis; see `formatTicks`. */
export function formatAxis(metric: string, ticks: readonly number[], increment: number): string[] {
  if (!TIMES.test(metric)) return formatTicks(ticks, increment);
  const { factor, unit } = timeUnit(Math.max(...ticks.map(Math.abs)));
  const labels = formatTicks(ticks.map((tick) => tick * factor), increment * factor);
  return labels.map((label) => (label === "0" ? label : `${label} ${unit}`));
}

function timeUnit(seconds: number): { factor: number; unit: string } {
  return Math.abs(seconds) < 1 ? { factor: MS_PER_SECOND, unit: "ms" } : { factor: 1, unit: "s" };
}
