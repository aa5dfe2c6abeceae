/** How long to wait before each further try: 250 ms, doubling, 2 s at most. */
export class Backoff {
  static readonly FIRST_MS = 250;
  static readonly LONGEST_MS = 2000;

  #next = Backoff.FIRST_MS;

  /** The delay before the next try. */
  next(): number {
    const delay = this.#next;
    this.#next = Math.min(delay * 2, Backoff.LONGEST_MS);
    return delay;
  }

  /** A try succeeded. */
  reset(): void {
    this.#next = Backoff.FIRST_MS;
  }
}
