import { decimate, type Points } from "./decimate";

/** One metric of one run, thinned out as it grows so that its memory stays bounded. */
export class Series implements Points {
  /** Points held at most. */
  static readonly LIMIT = 8192;
  /** The newest points, which are never thinned: what just happened is looked at most closely. */
  static readonly RECENT = 2048;
  static readonly #BUCKETS = 1536;

  readonly steps: number[] = [];
  readonly values: (number | null)[] = [];
  /** Points that were ever recorded, held or not. */
  count = 0;
  /** Counts the changes: a series that was rewound may come to have as many points again. */
  changes = 0;

  /** A series as a snapshot has it: some of the `count` points that there are. */
  static of(points: Points, count: number): Series {
    const series = new Series();
    points.steps.forEach((step, index) => series.append(step, points.values[index] ?? null));
    series.count = count;
    return series;
  }

  get length(): number {
    return this.steps.length;
  }

  get lastStep(): number | undefined {
    return this.steps.at(-1);
  }

  /** Whether points were left out. */
  get isThinned(): boolean {
    return this.count > this.steps.length;
  }

  append(step: number, value: number | null): void {
    this.count += 1;
    this.changes += 1;
    const last = this.lastStep;
    if (last === undefined || step > last) {
      this.steps.push(step);
      this.values.push(value);
      if (this.steps.length > Series.LIMIT) this.#thin();
    } else {
      this.#place(step, value);
    }
  }

  /** Drop the points after a step. How many those were is estimated where they had been thinned. */
  rewind(step: number): void {
    const kept = lowerBound(this.steps, step + 1);
    const dropped = this.steps.length - kept;
    if (dropped === 0) return;
    const share = dropped > Series.RECENT ? this.count / this.steps.length : 1;
    this.steps.length = kept;
    this.values.length = kept;
    this.count = Math.max(kept, this.count - Math.round(dropped * share));
    this.changes += 1;
  }

  /** A point that is not the newest: measured late, or measured again. */
  #place(step: number, value: number | null): void {
    const index = lowerBound(this.steps, step);
    const isRepeated = this.steps[index] === step;
    this.steps.splice(index, isRepeated ? 1 : 0, step);
    this.values.splice(index, isRepeated ? 1 : 0, value);
  }

  #thin(): void {
    const older = this.steps.length - Series.RECENT;
    const { steps, values } = decimate(
      { steps: this.steps.slice(0, older), values: this.values.slice(0, older) },
      Series.#BUCKETS,
    );
    this.steps.splice(0, older, ...steps);
    this.values.splice(0, older, ...values);
  }
}

/** The first index whose entry is not less than `step`. */
export function lowerBound(steps: readonly number[], step: number): number {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((steps[middle] ?? Infinity) < step) low = middle + 1;
    else high = middle;
  }
  return low;
}
