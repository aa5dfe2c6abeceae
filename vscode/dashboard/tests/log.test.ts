import { expect, test } from "vitest";
import { LogBook } from "../src/store/log";
import { filterLog, logAsText, type LogFilter } from "../src/store/log-filter";
import { checkpointMark, commandMark, evaluationMark } from "../src/store/marks";
import { checkpointSaved, commandChanged, logLine } from "./fixtures";

function page(from: number, to: number, more: boolean) {
  const entries = [];
  for (let seq = from; seq <= to; seq += 1) {
    entries.push({ seq, line: logLine(`line ${seq}`, { time: seq }) });
  }
  return { entries, more };
}

test("the newest lines stay and the oldest make room", () => {
  const log = new LogBook();
  for (let seq = 1; seq <= LogBook.LIMIT + 10; seq += 1) log.append(seq, logLine(`line ${seq}`));
  expect(log.items()).toHaveLength(LogBook.LIMIT);
  expect(log.oldest).toBe(11);
  expect(log.hasOlder).toBe(true);
});

test("older pages come in front, without repeating what is held", () => {
  const log = new LogBook();
  log.prepend(page(50, 60, true));
  log.prepend(page(40, 52, false));
  expect(log.items().map((item) => item.text)).toEqual(
    page(40, 60, false).entries.map((entry) => entry.line.text),
  );
  expect(log.hasOlder).toBe(false);
});

test("older pages outlive new lines until the newest lines are followed again", () => {
  const log = new LogBook();
  log.prepend(page(10_001, 10_000 + LogBook.LIMIT, true));
  log.prepend(page(9_001, 10_000, true));
  log.append(20_000, logLine("new"));
  expect(log.items()).toHaveLength(LogBook.LIMIT + 1001);
  log.settle();
  expect(log.items()).toHaveLength(LogBook.LIMIT);
  expect(log.items().at(-1)?.text).toBe("new");
});

test("paging back has an end", () => {
  const log = new LogBook();
  log.prepend(page(100_000, 100_000 + LogBook.PAGED_LIMIT, true));
  expect(log.hasOlder).toBe(false);
  expect(log.isFull).toBe(true);
});

test("commands stand at their time, once, and wait for the part of the log they belong to", () => {
  const log = new LogBook();
  log.prepend(page(10, 20, true));
  log.mark(commandMark(commandChanged({ id: "early", time: 3 })));
  log.mark(commandMark(commandChanged({ id: "c", time: 12.5, status: "received", outcome: null })));
  log.mark(commandMark(commandChanged({ id: "c", time: 12.6 })));
  const texts = log.items().map((item) => item.text);
  expect(texts.slice(2, 5)).toEqual(["line 12", "pause applied", "line 13"]);
  expect(texts).toHaveLength(12);
  log.prepend(page(1, 9, false));
  expect(log.items()).toHaveLength(22);
  expect(log.items()[3]?.key).toBe("command early");
});

test("the list of lines is another one only when there is something new", () => {
  const log = new LogBook();
  const items = log.items();
  expect(log.items()).toBe(items);
  log.append(1, logLine("x"));
  expect(log.items()).not.toBe(items);
});

test("lines are filtered by level and by text in any case", () => {
  const log = new LogBook();
  log.append(1, logLine("Loading data", { level: 10 }));
  log.append(2, logLine("loss is high", { level: 30 }));
  log.append(3, logLine("boom", { level: 40, logger: "Data" }));
  const texts = (level: number, text: string) =>
    filterLog(log.items(), { level, text, brief: false }).map((item) => item.text);
  expect(texts(0, "")).toHaveLength(3);
  expect(texts(30, "")).toEqual(["loss is high", "boom"]);
  expect(texts(0, "data")).toEqual(["Loading data", "boom"]);
  expect(texts(40, "loss")).toEqual([]);
});

test("lines are saved with time, level, run and step", () => {
  const log = new LogBook();
  log.append(1, logLine("hello", { step: 5, logger: "train" }));
  expect(logAsText(log.items())).toMatch(/^\d\d:\d\d:\d\d INFO baseline step 5 train: hello\n$/);
});

const evaluated = (step: number, split = "validation") =>
  evaluationMark({
    ...{ kind: "evaluation-finished", time: step, run: "baseline", step, split },
    ...{ samples: 9, values: { loss: step } },
  });

test("in brief, evaluations and checkpoints in a row are told by the newest of each", () => {
  const log = new LogBook();
  log.append(1, logLine("a", { time: 0 }));
  for (const step of [1, 2, 3]) {
    log.mark(evaluated(step));
    log.mark(checkpointMark(checkpointSaved({ step, time: step + 0.5, label: "best" })));
  }
  log.mark(checkpointMark(checkpointSaved({ step: 3, time: 3.7, label: "by hand" })));
  log.mark(evaluated(4));
  log.mark(evaluated(5, "test"));
  const texts = (filter: Partial<LogFilter>) =>
    filterLog(log.items(), { level: 0, text: "", brief: true, ...filter }).map(({ text }) =>
      text.replace(/,.*pt/, ""),
    );
  expect(texts({})).toEqual([
    "a",
    "loss 3 over 9 samples (2 before it folded)",
    "best saved (2 before it folded)",
    "by hand saved",
    "loss 4 over 9 samples",
    "loss 5 over 9 samples",
  ]);
  expect(texts({ brief: false })).toHaveLength(10);
  expect(texts({ text: "loss 2" })).toEqual(["loss 2 over 9 samples"]);
});
