import type { LogLine, LogPage } from "../wire/types";

/** A line of the log, or something that happened and is told in its place among the lines. */
export interface LogItem {
  key: string;
  /** `line`: written by the script. The others are told by the dashboard. */
  kind: "line" | "command" | "evaluation" | "checkpoint" | "rewind" | "note" | "guard" | "health" | "warning";
  time: number;
  run: string;
  step: number | null;
  /** The number of Python's `logging`; 20 is INFO. */
  level: number;
  source: string;
  text: string;
  /** What it is one more of, where it comes again and again by itself. */
  routine?: string;
}

/** A session's newest log lines, and what happened between them. */
export class LogBook {
  /** Lines held at most. */
  static readonly LIMIT = 5000;
  /** Lines held at most while a person pages back through older ones. */
  static readonly PAGED_LIMIT = 25_000;
  static readonly #MARKS = 1000;

  readonly #lines: { seq: number; item: LogItem }[] = [];
  readonly #marks: LogItem[] = [];
  #allowed = LogBook.LIMIT;
  #hasOlder = false;
  #items: LogItem[] | null = null;

  /** The `seq` of the oldest line held: older pages end before it. */
  get oldest(): number | undefined {
    return this.#lines[0]?.seq;
  }

  /** Whether older lines exist that could be loaded. */
  get hasOlder(): boolean {
    return this.#hasOlder && this.#lines.length < LogBook.PAGED_LIMIT;
  }

  /** Whether older lines exist that are too many to hold. */
  get isFull(): boolean {
    return this.#hasOlder && this.#lines.length >= LogBook.PAGED_LIMIT;
  }

  /** Put a page in front of the lines held. */
  prepend(page: LogPage): void {
    const oldest = this.oldest ?? Infinity;
    const older = page.entries.filter((entry) => entry.seq < oldest);
    this.#lines.unshift(...older.map(({ seq, line }) => ({ seq, item: lineItem(seq, line) })));
    this.#hasOlder = page.more;
    // New lines keep coming while older ones are read; they must not push these out at once.
    if (older.length > 0 && oldest !== Infinity) {
      this.#allowed = Math.min(LogBook.PAGED_LIMIT, this.#lines.length + LogBook.LIMIT);
    }
    this.#items = null;
  }

  append(seq: number, line: LogLine): void {
    this.#lines.push({ seq, item: lineItem(seq, line) });
    this.#trim();
    this.#items = null;
  }

  mark(item: LogItem): void {
    const known = this.#marks.findIndex((mark) => mark.key === item.key);
    if (known >= 0) this.#marks.splice(known, 1);
    let index = this.#marks.length;
    while (index > 0 && (this.#marks[index - 1]?.time ?? 0) > item.time) index -= 1;
    this.#marks.splice(index, 0, item);
    if (this.#marks.length > LogBook.#MARKS) this.#marks.shift();
    this.#items = null;
  }

  /** Give up the older pages: the newest lines are being looked at again. */
  settle(): void {
    if (this.#allowed === LogBook.LIMIT) return;
    this.#allowed = LogBook.LIMIT;
    this.#trim();
    this.#items = null;
  }

  /** Lines and marks in the order of their time; the same list until something changes. */
  items(): readonly LogItem[] {
    this.#items ??= this.#merge();
    return this.#items;
  }

  #trim(): void {
    const excess = this.#lines.length - this.#allowed;
    if (excess <= 0) return;
    this.#lines.splice(0, excess);
    this.#hasOlder = true;
  }

  #merge(): LogItem[] {
    // What happened before the oldest line held waits until that part of the log is loaded.
    const from = this.#hasOlder ? (this.#lines[0]?.item.time ?? -Infinity) : -Infinity;
    const marks = this.#marks.filter((mark) => mark.time >= from);
    const items: LogItem[] = [];
    let next = 0;
    for (const { item } of this.#lines) {
      for (let mark = marks[next]; mark && mark.time < item.time; mark = marks[next]) {
        items.push(mark);
        next += 1;
      }
      items.push(item);
    }
    return items.concat(marks.slice(next));
  }
}

function lineItem(seq: number, line: LogLine): LogItem {
  const { time, run, step, level, logger, text } = line;
  return { key: `line ${seq}`, kind: "line", time, run, step, level, source: logger, text };
}
