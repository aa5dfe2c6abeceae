/** The least height of a chart's card. */
const LEAST_PX = 160;
/** The greatest, where there are fewer charts than there is room for. */
const GREATEST_PX = 460;
/** So much of the next row's upper edge stays in sight, as a sign that there is more. */
const PEEK_PX = 7;

/**
 * How high the rows of charts are, so that whole ones fill the room that there is before anything
 * is scrolled: no chart is cut.
 */
export function rowHeight(input: { room: number; rows: number; gap: number; below: number }): number {
  const { room, rows, gap, below } = input;
  const fits = (count: number, rest: number): number =>
    (room - rest - gap * (count - 1)) / Math.max(1, count);
  const all = fits(rows, below);
  if (rows === 0 || all >= LEAST_PX) return Math.floor(Math.min(all, GREATEST_PX));
  const rest = gap + PEEK_PX;
  const count = Math.max(1, Math.floor((room - rest + gap) / (LEAST_PX + gap)));
  return Math.floor(Math.max(LEAST_PX, fits(count, rest)));
}
