/** Colours of runs: by their place in the session, so that a run keeps its colour. */

export interface RunStyle {
  /** The custom property that holds the colour, for either theme. */
  color: string;
  /** Dashes in CSS pixels; empty for a solid line. */
  dash: readonly number[];
}

const COLORS = 6;
/** Runs that share a colour differ by their dashes, as do people who cannot tell hues apart. */
const DASHES: readonly (readonly number[])[] = [[], [6, 4], [2, 3]];

export function runStyle(place: number): RunStyle {
  return {
    color: `--run-${(place % COLORS) + 1}`,
    dash: DASHES[Math.floor(place / COLORS) % DASHES.length] ?? [],
  };
}
