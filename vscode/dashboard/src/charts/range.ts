/** Differences below this share of the values are rounding errors: so little is a constant. */
const NOISE = 1e-6;
/** How far the range of a constant reaches to either side, as a share of it. */
const AROUND = 0.1;
/** Off the middle, which may lie between two pixels: there a rounding error would make it jump. */
const OFF = 0.005;

/** A little air above and below; a constant stands near the middle of a range of its own. */
export function valueRange(low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low <= NOISE * size) return constantRange((low + high) / 2);
  const air = (high - low) * 0.06;
  // Air below zero would suggest that there are negative values.
  return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
}

function constantRange(value: number): [number, number] {
  if (value === 0) return [0, 1];
  const size = Math.abs(value);
  return [value - (AROUND - OFF) * size, value + (AROUND + OFF) * size];
}
