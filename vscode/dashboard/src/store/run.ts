import type { RunState, RunSummary } from "../wire/types";

/** A run as the dashboard follows it. */
export interface Run {
  name: string;
  parents: string[];
  state: RunState;
  /** Why the run is in its state, where that is not obvious. */
  reason: string;
  step: number;
  epoch: number;
  created: number;
  updated: number;
  /** Each metric's newest value; `null` was measured and is not finite. */
  latest: Record<string, number | null>;
}

export function newRun(name: string, parents: string[], time: number, step = 0): Run {
  return {
    name,
    parents,
    state: "starting",
    reason: "",
    step,
    epoch: 0,
    created: time,
    updated: time,
    latest: {},
  };
}

export function runOf(summary: RunSummary): Run {
  return { ...summary, parents: [...summary.parents], latest: { ...summary.latest } };
}

/** Whether a run in this state has ended. */
export function isFinal(state: RunState | "lost"): boolean {
  return state === "finished" || state === "stopped" || state === "failed" || state === "lost";
}
