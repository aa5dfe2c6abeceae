import type uPlot from "uplot";

/**
 * The measured points that no line reaches, because both neighbours are not finite or missing.
 * They are drawn as points even where points are too dense to be drawn.
 */
export function isolatedPoints(plot: uPlot, index: number, show: boolean): number[] | null {
  if (show) return null;
  const column = plot.data[index] as (number | null | undefined)[] | undefined;
  if (!column?.includes(null)) return null;
  const isolated: number[] = [];
  let before: number | null = null;
  let candidate = -1;
  for (let place = 0; place < column.length; place += 1) {
    const value = column[place];
    if (value === undefined) continue;
    if (candidate >= 0 && value === null) isolated.push(candidate);
    candidate = value !== null && before === null ? place : -1;
    before = value;
  }
  if (candidate >= 0) isolated.push(candidate);
  return isolated;
}
