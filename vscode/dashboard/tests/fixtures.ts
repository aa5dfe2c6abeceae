/** Small wire messages, complete but for what a test is about. */

import type {
  AnyEvent,
  Batch,
  CommandChanged,
  LogLine,
  Metrics,
  RunSummary,
  SessionSummary,
  Snapshot,
} from "../src/wire/types";

export function runSummary(change: Partial<RunSummary> = {}): RunSummary {
  return {
    name: "baseline",
    parents: [],
    state: "running",
    reason: "",
    step: 0,
    epoch: 0,
    created: 100,
    updated: 100,
    latest: {},
    ...change,
  };
}

export function sessionSummary(change: Partial<SessionSummary> = {}): SessionSummary {
  return {
    id: "s1",
    project: "mnist",
    created: 100,
    updated: 100,
    state: "running",
    runs: [runSummary()],
    last_seq: 0,
    connected: true,
    ...change,
  };
}

export function snapshot(change: Partial<Snapshot> = {}): Snapshot {
  const seq = change.seq ?? 0;
  return {
    seq,
    session: sessionSummary({ last_seq: seq }),
    series: [],
    epochs: [],
    log: { entries: [], more: false },
    commands: [],
    evaluations: [],
    ...change,
  };
}

export function batch(first: number, ...events: AnyEvent[]): Batch {
  return { frame: "batch", session: "s1", first, events };
}

/** One step's loss. */
export function loss(step: number, value: number | null = 1): Metrics {
  return {
    kind: "metrics",
    run: "baseline",
    steps: [step],
    times: [100 + step],
    values: { loss: [value] },
  };
}

export function logLine(text: string, change: Partial<LogLine> = {}): LogLine {
  return { kind: "log", time: 100, run: "baseline", step: 1, level: 20, logger: "", text, ...change };
}

export function commandChanged(change: Partial<CommandChanged> = {}): CommandChanged {
  return {
    kind: "command-changed",
    time: 100,
    run: "baseline",
    step: 1,
    id: "c1",
    author: "dashboard",
    command: { kind: "pause" },
    status: "applied",
    outcome: { kind: "applied", step: 1, message: "" },
    ...change,
  };
}
