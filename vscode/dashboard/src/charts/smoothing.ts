import type { Points } from "../store/decimate";

/**
 * An exponential moving average over steps, whose weights halve every `halfLife` steps.
 *
 * Each point weighs as much as the steps it stands for, so that thinned and full stretches are
 * smoothed alike. The sum of the weights divides the result: the curve starts at the data rather
 * than at zero. What is not finite has no weight and stays a gap.
 */
export function smooth({ steps, values }: Points, halfLife: number): (number | null)[] {
  let mean = 0;
  let weight = 0;
  // No mean lies beyond what it is the mean of, whatever its rounding errors.
  let low = Infinity;
  let high = -Infinity;
  let previous = (steps[0] ?? 0) - Math.max(1, (steps[1] ?? 0) - (steps[0] ?? 0));
  return values.map((value, index) => {
    if (value === null) return null;
    const step = steps[index] ?? previous;
    const kept = 2 ** -((step - previous) / halfLife);
    previous = step;
    mean = kept * mean + (1 - kept) * value;
    weight = kept * weight + (1 - kept);
    low = Math.min(low, value);
    high = Math.max(high, value);
    return weight > 0 ? Math.min(high, Math.max(low, mean / weight)) : value;
  });
}

/** The half-life for a slider between 0 and 1: up to a tenth of the steps shown. */
export function halfLifeOf(amount: number, span: number): number {
  return Math.max(1e-9, amount ** 2 * 0.1 * span);
}
