/** As many runs are named; of more only how many there are. */
const NAMED = 3;

/** The names of a session's runs, the newest first, as `fork1, baseline` or `c, b, a and 4 more`. */
export function runsText(names: readonly string[]): string {
  const newestFirst = [...names].reverse();
  const rest = newestFirst.length - NAMED;
  const text = newestFirst.slice(0, NAMED).join(", ");
  return rest > 0 ? `${text} and ${rest} more` : text;
}
