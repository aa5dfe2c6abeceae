/** A typed whole number of at least 1; `null` when it is none. */
export function parseCount(text: string): number | null {
  const count = Number(text.trim());
  return text.trim() !== "" && Number.isSafeInteger(count) && count >= 1 ? count : null;
}
