/** Small wire messages, complete but for what a test is about. */

import type {
  AnyEvent,
  Batch,
  CheckpointSaved,
  CommandChanged,
  GuardTripped,
  HealthFinding,
  HealthReported,
  HyperparametersDeclared,
  LimitsChanged,
  LogLine,
  Metrics,
  Rewound,
  RunSummary,
  SessionSummary,
  Snapshot,
  StallNoticed,
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

export function checkpointSaved(change: Partial<CheckpointSaved> = {}): CheckpointSaved {
  const { run = "baseline", step = 10 } = change;
  return {
    kind: "checkpoint-saved",
    time: 100 + step,
    run,
    step,
    label: "periodic",
    path: `checkpoints/${run}-${step}.pt`,
    size: 1_500_000,
    sha256: "",
    id: `${run}@${step}`,
    ...change,
  };
}

export function rewound(step: number, left_step: number, change: Partial<Rewound> = {}): Rewound {
  return {
    kind: "rewound",
    time: 500,
    run: "baseline",
    step,
    epoch: 1,
    left_step,
    checkpoint: `baseline@${step}`,
    ...change,
  };
}

export function hyperparameters(
  change: Partial<HyperparametersDeclared> = {},
): HyperparametersDeclared {
  return {
    kind: "hyperparameters-declared",
    time: 100,
    run: "baseline",
    step: 0,
    lr_owner: "scheduler",
    lr_rule: "StepLR sets it.",
    values: [
      { name: "lr", value: 0.1, group: 0, low: 0, high: null },
      { name: "momentum", value: 0.9, group: 0, low: 0, high: 1 },
      { name: "mixup", value: true, group: null },
      { name: "policy", value: "cosine", group: null },
    ],
    ...change,
  };
}

export function limits(change: Partial<LimitsChanged> = {}): LimitsChanged {
  return { kind: "limits-changed", time: 100, run: "baseline", step: 0, ...change };
}

export function guardTripped(change: Partial<GuardTripped> = {}): GuardTripped {
  return {
    kind: "guard-tripped",
    time: 130,
    run: "baseline",
    step: 30,
    guard: "non-finite",
    action: "pause",
    message: "loss is not finite.",
    indices: [3, 1, 4],
    checkpoint: "baseline@10",
    ...change,
  };
}

export function healthReported(
  report: Partial<HealthReported["report"]> = {},
  change: Partial<HealthReported> = {},
): HealthReported {
  return {
    kind: "health-reported",
    time: 140,
    run: "baseline",
    step: 40,
    author: "dashboard",
    report: { check: "numerics", findings: [], measures: {}, facts: {}, seconds: 1, refusal: "", ...report },
    ...change,
  };
}

export function healthFinding(change: Partial<HealthFinding> = {}): HealthFinding {
  return {
    severity: "critical",
    where: "head.weight",
    what: "It is not finite.",
    value: "3 NaN of 48",
    meaning: "Nothing is learned.",
    remedy: "go back.",
    ...change,
  };
}

export function stallNoticed(change: Partial<StallNoticed> = {}): StallNoticed {
  return {
    kind: "stall-noticed",
    time: 200,
    run: "baseline",
    step: 30,
    phase: "data",
    seconds: 61,
    stack: 'File "train.py", line 3',
    ...change,
  };
}
