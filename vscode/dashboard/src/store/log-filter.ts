import { formatCount } from "../format/number";
import { formatClock } from "../format/time";
import type { LogItem } from "./log";

export interface LogFilter {
  /** The least level shown. */
  level: number;
  /** Part of a line, in any case; empty for all. */
  text: string;
  /** Whether of what is routine only the newest is shown, as long as nothing else happens. */
  brief: boolean;
}

export function filterLog(items: readonly LogItem[], filter: LogFilter): readonly LogItem[] {
  const text = filter.text.trim().toLowerCase();
  // Who looks for something wants every line that has it.
  const isBrief = filter.brief && text === "";
  if (filter.level <= 0 && text === "") return isBrief ? withoutRoutine(items) : items;
  const fitting = items.filter(
    (item) =>
      item.level >= filter.level &&
      (text === "" || `${item.source} ${item.text}`.toLowerCase().includes(text)),
  );
  return isBrief ? withoutRoutine(fitting) : fitting;
}

/** Of what is routine the newest of its kind in a row, which says how many before it are folded. */
function withoutRoutine(items: readonly LogItem[]): readonly LogItem[] {
  const shown: LogItem[] = [];
  let row: LogItem[] = [];
  for (const item of items) {
    if (item.routine === undefined) {
      shown.push(...newestOfEach(row), item);
      row = [];
    } else {
      row.push(item);
    }
  }
  return shown.concat(newestOfEach(row));
}

function newestOfEach(row: readonly LogItem[]): LogItem[] {
  const counts = new Map<string, number>();
  const newest = new Map<string, LogItem>();
  for (const item of row) {
    const routine = item.routine ?? "";
    counts.set(routine, (counts.get(routine) ?? 0) + 1);
    newest.set(routine, item);
  }
  return row.flatMap((item) => {
    const routine = item.routine ?? "";
    if (newest.get(routine) !== item) return [];
    const before = (counts.get(routine) ?? 1) - 1;
    return before === 0 ? [item] : [{ ...item, text: `${item.text} (${formatCount(before)} before it folded)` }];
  });
}

/** The name of a level, as Python's `logging` has it. */
export function levelName(level: number): "debug" | "info" | "warning" | "error" {
  if (level >= 40) return "error";
  if (level >= 30) return "warning";
  return level >= 20 ? "info" : "debug";
}

/** Lines as a plain text file. */
export function logAsText(items: readonly LogItem[]): string {
  const lines = items.map((item) => {
    const step = item.step === null ? "" : ` step ${item.step}`;
    const level = levelName(item.level).toUpperCase();
    return `${formatClock(item.time)} ${level} ${item.run}${step} ${item.source}: ${item.text}\n`;
  });
  return lines.join("");
}
