import type { Points } from "../store/decimate";

/** A shared x, and each series over it; `undefined` where a series was not measured. */
export interface Aligned {
  steps: number[];
  columns: (number | null | undefined)[][];
}

/** The series of one chart over the union of their steps, as one plot needs them. */
export function align(series: readonly Points[]): Aligned {
  const [first] = series;
  if (first && series.every((one) => one.steps === first.steps)) {
    // Copies, because a plot keeps what it is given while a series goes on growing in place.
    return { steps: first.steps.slice(), columns: series.map((one) => one.values.slice()) };
  }
  const steps = unionOf(series.map((one) => one.steps));
  return { steps, columns: series.map((one) => spread(one, steps)) };
}

/** Ascending steps without repetition, from lists that are so themselves. */
function unionOf(lists: readonly (readonly number[])[]): number[] {
  const union: number[] = [];
  const next = lists.map(() => 0);
  for (;;) {
    let least = Infinity;
    lists.forEach((list, index) => {
      least = Math.min(least, list[next[index] ?? 0] ?? Infinity);
    });
    if (least === Infinity) return union;
    union.push(least);
    lists.forEach((list, index) => {
      const place = next[index] ?? 0;
      if (list[place] === least) next[index] = place + 1;
    });
  }
}

function spread({ steps, values }: Points, onto: readonly number[]): (number | null | undefined)[] {
  let next = 0;
  return onto.map((step) => {
    if (steps[next] !== step) return undefined;
    next += 1;
    return values[next - 1];
  });
}
