import { expect, test } from "vitest";
import { formatAxis, formatReading, unitOf } from "../src/format/measure";
import { formatBytes, formatCount, formatTicks, formatValue } from "../src/format/number";
import { runsText } from "../src/format/runs";
import { formatAgo, formatSpan } from "../src/format/time";

test.each([
  [0, "0"],
  [0.5, "0.5"],
  [0.053219, "0.05322"],
  [0.00012, "1.2e\u22124"],
  [-0.00012, "\u22121.2e\u22124"],
  [3, "3"],
  [-3.14159, "\u22123.142"],
  [1234, "1,234"],
  [1234.56, "1,235"],
  [9999.7, "10k"],
  [12345, "12.3k"],
  [999_999, "1M"],
  [7_654_321, "7.65M"],
  [1e20, "1e20"],
  [null, "not finite"],
  [undefined, "\u2013"],
])("%s is written %s", (value, text) => {
  expect(formatValue(value)).toBe(text);
});

test("counts are written in full", () => {
  expect(formatCount(1234567)).toBe("1,234,567");
});

test.each([
  [[0, 0.5, 1], 0.5, ["0", "0.5", "1.0"]],
  [[0, 0.0001, 0.0002], 0.0001, ["0", "1e\u22124", "2e\u22124"]],
  [[0.998, 0.999, 1], 0.001, ["0.998", "0.999", "1.000"]],
  [[0, 10_000, 20_000], 10_000, ["0", "10k", "20k"]],
  [[12_250, 12_500], 250, ["12.25k", "12.50k"]],
  [[1000, 2000], 1000, ["1,000", "2,000"]],
  [[-1500, 0], 1500, ["\u22121,500", "0"]],
  [[-1, 0, 1], 1, ["\u22121", "0", "1"]],
])("the ticks %j are written alike", (ticks, increment, texts) => {
  expect(formatTicks(ticks, increment)).toEqual(texts);
});

test.each([
  [999, "999 B"],
  [1_500_000, "1.5 MB"],
  [45_321_234, "45.3 MB"],
])("%d bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [-5, "0 s"],
  [8.9, "8 s"],
  [247, "4:07"],
  [3753, "1:02:33"],
])("%d seconds are %s", (seconds, text) => {
  expect(formatSpan(seconds)).toBe(text);
});

test.each([
  [-20, "just now"],
  [59, "just now"],
  [150, "2 min ago"],
  [7300, "2 h ago"],
  [90_000, "yesterday"],
  [260_000, "3 days ago"],
])("%d seconds back is %s", (seconds, text) => {
  expect(formatAgo(1000, 1000 + seconds)).toBe(text);
});

test.each([
  ["step_time", 0.011037, "11.04 ms"],
  ["step_time", 2.5, "2.5 s"],
  ["step_time", null, "not finite"],
  ["throughput", 3589, "3,589"],
  ["lr", 0.001, "0.001"],
  ["data_step_time", 0.5, "0.5"],
])("a %s of %s is read as %s", (metric, value, text) => {
  expect(formatReading(metric, value)).toBe(text);
});

test("units are told of what is known, and of nothing else", () => {
  expect(["throughput", "step_time", "lr", "my_throughput"].map(unitOf)).toEqual([
    "samples/s",
    ...Array<null>(3).fill(null),
  ]);
  expect(formatAxis("step_time", [0, 0.005, 0.01], 0.005)).toEqual(["0", "5 ms", "10 ms"]);
  expect(formatAxis("step_time", [0, 0.5, 1], 0.5)).toEqual(["0", "0.5 s", "1.0 s"]);
  expect(formatAxis("lr", [0, 0.5], 0.5)).toEqual(["0", "0.5"]);
});

test.each([
  ["sys/cpu", 12.5, "12.5", "%"],
  ["proc/ram", 1.5e9, "1.5G", "B"],
  ["gpu0/memory_process", 3e9, "3G", "B"],
  ["gpu12/torch_allocated", 3e9, "3G", "B"],
  ["gpu0/temperature", 64, "64", "\u00b0C"],
  ["gpu0/power", 251.5, "251.5", "W"],
  ["gpu0/clock_sm", 1410, "1,410", "MHz"],
  ["gpu0/throttle_power", 1, "1", null],
  ["step_time/p95", 0.0125, "12.5 ms", null],
  ["data_wait/share", 0.4, "0.4", null],
])("the unit of %s is known", (metric, value, text, unit) => {
  expect(formatReading(metric, value)).toBe(text);
  expect(unitOf(metric)).toBe(unit);
});

test("runs are named, the newest first, and of many the number", () => {
  expect(runsText([])).toBe("");
  expect(runsText(["baseline", "fork1"])).toBe("fork1, baseline");
  expect(runsText(["a", "b", "c", "d", "e"])).toBe("e, d, c and 2 more");
});
