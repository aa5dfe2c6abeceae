/** Thinning a series so that it looks the same: columns of equal width, each with its extremes. */

export interface Points {
  /** Ascending and without repetition. */
  steps: number[];
  /** One per step; `null` was measured and is not finite. */
  values: (number | null)[];
}

/**
 * At most three points for each of `buckets` columns of equal width in steps: the least and the
 * greatest value, and one `null` where the column has any. The first and the last point stay, and
 * thinning twice keeps what thinning once kept.
 */
export function decimate(points: Points, buckets: number): Points {
  const { steps, values } = points;
  const length = steps.length;
  if (length <= buckets) return points;
  const start = steps[0] ?? 0;
  const width = ((steps[length - 1] ?? 0) - start + 1) / buckets;
  const kept: Points = { steps: [], values: [] };
  let from = 0;
  while (from < length) {
    const bucket = Math.floor(((steps[from] ?? 0) - start) / width);
    let to = from + 1;
    while (to < length && Math.floor(((steps[to] ?? 0) - start) / width) === bucket) to += 1;
    for (const index of extremes(values, from, to, length)) {
      kept.steps.push(steps[index] ?? 0);
      kept.values.push(values[index] ?? null);
    }
    from = to;
  }
  return kept;
}

/** Ascending indices of what represents `values[from..to)`. */
function extremes(
  values: (number | null)[],
  from: number,
  to: number,
  length: number,
): Iterable<number> {
  let lowest = -1;
  let highest = -1;
  let missing = -1;
  for (let index = from; index < to; index += 1) {
    const value = values[index];
    if (value === null || value === undefined) {
      missing = missing < 0 ? index : missing;
      continue;
    }
    if (lowest < 0 || value < (values[lowest] ?? value)) lowest = index;
    if (highest < 0 || value > (values[highest] ?? value)) highest = index;
  }
  const chosen = new Set([lowest, highest, missing].filter((index) => index >= 0));
  if (from === 0) chosen.add(0);
  if (to === length) chosen.add(length - 1);
  return [...chosen].sort((a, b) => a - b);
}
