/** Numbers for people: four significant digits, and a thousandth of the ink. */

const MINUS = "\u2212";
const SUFFIXES: [number, string][] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** A measurement, as `0.0123`, `1.2e−4` or `12.3k`; `null` is one that is not finite. */
export function formatValue(value: number | null | undefined): string {
  if (value === undefined) return "\u2013";
  if (value === null || !Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e15 || size < 1e-3) return scientific(value, 3);
  if (size >= 9_999.5) return withSuffix(value, 3);
  if (Number.isInteger(value) || size >= 999.95) return formatCount(value);
  return signed(trimZeros(value.toPrecision(4)));
}

/** A setting in full, as a person would type it: no digit is left out. */
export function formatExact(value: number | boolean | string | null | undefined): string {
  if (value === null || value === undefined) return "\u2013";
  if (typeof value !== "number") return String(value);
  return signed(String(value).replace("e+", "e"));
}

/** A whole number in full, as `12,345`. */
export function formatCount(count: number): string {
  return signed(Math.round(count).toLocaleString("en-US"));
}

/** The labels of an axis whose neighbours are `increment` apart: all with the same precision. */
export function formatTicks(ticks: readonly number[], increment: number): string[] {
  const size = Math.max(...ticks.map(Math.abs));
  if (size >= 1e15 || (size > 0 && size < 1e-3)) {
    return ticks.map((tick) => (tick === 0 ? "0" : scientific(tick, 3)));
  }
  const [unit, suffix] = size >= 1e4 ? unitOf(size) : [1, ""];
  const decimals = decimalsOf(increment / unit);
  return ticks.map((tick) =>
    tick === 0 ? "0" : grouped(tick / unit, decimals) + suffix,
  );
}

/** A size on disk, as `12.3 MB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const [unit, suffix] = unitOf(bytes);
  return `${trimZeros((bytes / unit).toPrecision(3))} ${suffix}B`;
}

function grouped(value: number, decimals: number): string {
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return signed(value.toLocaleString("en-US", digits));
}

function withSuffix(value: number, digits: number): string {
  const [unit, suffix] = unitOf(Math.abs(value) * (1 + 0.5 * 10 ** -digits));
  return signed(trimZeros((value / unit).toPrecision(digits))) + suffix;
}

function unitOf(size: number): [number, string] {
  return SUFFIXES.find(([unit]) => size >= unit) ?? [1, ""];
}

function decimalsOf(increment: number): number {
  for (let decimals = 0; decimals < 12; decimals += 1) {
    const scaled = increment * 10 ** decimals;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return decimals;
  }
  return 12;
}

function scientific(value: number, digits: number): string {
  const [mantissa = "", exponent = ""] = value.toExponential(digits - 1).split("e");
  return signed(`${trimZeros(mantissa)}e${exponent.replace("+", "")}`);
}

function trimZeros(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function signed(text: string): string {
  return text.replaceAll("-", MINUS);
}
