import { formatClock } from "../format/time";
import type { LogItem } from "./log";

export interface LogFilter {
  /** The least level shown. */
  level: number;
  /** Part of a line, in any case; empty for all. */
  text: string;
}

export function filterLog(items: readonly LogItem[], filter: LogFilter): readonly LogItem[] {
  const text = filter.text.trim().toLowerCase();
  if (filter.level <= 0 && text === "") return items;
  return items.filter(
    (item) =>
      item.level >= filter.level &&
      (text === "" || `${item.source} ${item.text}`.toLowerCase().includes(text)),
  );
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
