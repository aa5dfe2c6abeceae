/** Jobs in words: what is going on, and what came of it. */

import type { JobKind, ShownJob } from "../store/jobs";
import type { JobResult } from "../wire/types";
import { formatBytes, formatCount } from "./number";

const DOING: Record<JobKind, string> = {
  export: "Exporting",
  import: "Importing",
  verify: "Verifying",
  delete: "Deleting",
  metrics: "Writing the metrics of",
};

const FAILED: Record<JobKind, string> = {
  export: "Not exported",
  import: "Not imported",
  verify: "Not verified",
  delete: "Not deleted",
  metrics: "No metrics written",
};

/** What a job does, before the name of what it does that with. */
export function jobTitle(job: ShownJob): string {
  if (job.state === "failed") return FAILED[job.kind];
  if (job.state === "done") return job.result ? DONE[job.result.kind] : "Done";
  return job.state === "sending" ? "Sending" : DOING[job.kind];
}

const DONE: Record<JobResult["kind"], string> = {
  export: "Exported",
  import: "Imported",
  verify: "Verified",
  delete: "Deleted",
  metrics: "Metrics of",
};

/** How far a job is, as `12.3 of 45 MB`. */
export function jobProgress(job: ShownJob): string {
  if (job.isCancelling) return "cancelling\u2026";
  if (job.total === 0) return "";
  const format = job.kind === "metrics" ? (count: number) => formatCount(count) : formatBytes;
  const unit = job.kind === "metrics" ? " points" : "";
  return `${format(job.done)} of ${format(job.total)}${unit}`;
}

/** What a job brought about, as a sentence. */
export function resultText(result: JobResult): string {
  switch (result.kind) {
    case "export":
      return `${counted(result)}, ${formatBytes(result.size)}.`;
    case "import":
      return `${counted(result)}, ${formatBytes(result.size)}.${renamed(result)}`;
    case "verify":
      return result.ok
        ? `It is sound: ${files(result.files)}, ${formatBytes(result.size)}.`
        : `It is not sound: ${result.faults?.length ?? 0} of its ${files(result.files)}.`;
    case "delete":
      return `${formatBytes(result.freed)} are free.`;
    case "metrics":
      return `${formatCount(result.points)} points, ${formatBytes(result.size)}.`;
  }
}

/** What should be known of a result beside that: what is left out or wrong, one sentence each. */
export function remarks(result: JobResult): string[] {
  switch (result.kind) {
    case "export":
    case "import":
      return result.notes ?? [];
    case "verify":
      return (result.faults ?? []).map(({ name, problem }) => `${name}: ${problem}`);
    case "metrics":
      return result.damage ? [result.damage] : [];
    case "delete":
      return [];
  }
}

function counted(result: {
  runs: readonly string[];
  checkpoints: number;
  final_models: number;
}): string {
  const parts = [plural(result.runs.length, "run"), plural(result.checkpoints, "checkpoint")];
  if (result.final_models > 0) parts.push(plural(result.final_models, "final model"));
  return parts.join(", ");
}

function renamed({ session, original }: { session: string; original: string }): string {
  return original === "" || original === session ? "" : ` Its id is ${session}; it was ${original}.`;
}

function files(count: number): string {
  return plural(count, "file");
}

export function plural(count: number, what: string): string {
  return `${formatCount(count)} ${what}${count === 1 ? "" : "s"}`;
}
