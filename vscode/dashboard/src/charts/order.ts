/** The order of charts: what tells whether training works first, what tells how fast it is last. */

const RANKS: readonly RegExp[] = [
  /^(train(ing)?[/_.])?loss$/,
  /^(val(id|idation)?|test|eval)[/_.]?loss$/,
  /loss|perplexity|ppl/,
  /acc(uracy)?(\b|_|\d|$)|f1|auc|precision|recall|iou|dice|bleu|rouge|score|top_?\d/,
];
const LATE_RANKS: readonly RegExp[] = [
  /grad|norm|activation|sparsity|update_ratio/,
  /^(.*[/_.])?(lr|learning_?rate)/,
  /mem(ory)?|util|gpu|cpu|device/,
  /^(sys|proc|mps)\//,
  /throughput|per_?sec(ond)?|\/s$|it_s/,
  /(step|batch|data|iter|forward|backward)_?time(\/|$)|duration|seconds|latency|_ms$|^data_wait|^time_remaining$/,
];

function rank(name: string): number {
  const lower = name.toLowerCase();
  const late = LATE_RANKS.findLastIndex((pattern) => pattern.test(lower));
  const early = RANKS.findIndex((pattern) => pattern.test(lower));
  if (early >= 0 && late < 0) return early;
  if (late >= 0) return RANKS.length + 1 + late;
  return RANKS.length;
}

/** Metric names in the order in which their charts stand. */
export function orderMetrics(names: readonly string[]): string[] {
  return [...names].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, "en"));
}
