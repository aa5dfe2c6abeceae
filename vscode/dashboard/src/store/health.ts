/** What checks of health have found. */

import type { HealthFinding, HealthReported, Severity } from "../wire/types";

/** The checks there are, in the order in which all of them are made. */
export const CHECKS = [
  "numerics",
  "activations",
  "distribution",
  "determinism",
  "throughput",
] as const;

const RANKS: Record<Severity, number> = { critical: 0, warning: 1, info: 2 };

/** A finding, and the report that it is from. */
export interface RankedFinding {
  readonly event: HealthReported;
  readonly finding: HealthFinding;
}

/** The newest report of each run and check. */
export class HealthBook {
  readonly #newest = new Map<string, HealthReported>();

  add(event: HealthReported): void {
    this.#newest.set(`${event.run} ${event.report.check}`, event);
  }

  /** A run's newest reports, in the order of the checks. */
  of(run: string): HealthReported[] {
    const reports = [...this.#newest.values()].filter((event) => event.run === run);
    return reports.sort((a, b) => placeOf(a) - placeOf(b));
  }
}

/** All findings of some reports, the gravest first. */
export function ranked(reports: readonly HealthReported[]): RankedFinding[] {
  return reports
    .flatMap((event) => (event.report.findings ?? []).map((finding) => ({ event, finding })))
    .sort((a, b) => RANKS[a.finding.severity] - RANKS[b.finding.severity]);
}

/** The severity of the gravest finding; `null` where there is none. */
export function worstOf(findings: readonly HealthFinding[]): Severity | null {
  const severities = findings.map(({ severity }) => severity);
  return severities.sort((a, b) => RANKS[a] - RANKS[b])[0] ?? null;
}

function placeOf({ report }: HealthReported): number {
  return CHECKS.findIndex((check) => check === report.check);
}
