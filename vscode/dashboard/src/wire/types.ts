/* Generated from schema.json; do not edit, run `npm run wire`. */

/** Raised when an older peer could misread a frame. */
export const PROTOCOL = 1;

export type AnyEvent =
  | ProcessStarted
  | RunStarted
  | StateChanged
  | EpochStarted
  | Metrics
  | LogLine
  | CheckpointSaved
  | EvaluationFinished
  | CommandChanged
  | RecordsDropped;
/**
 * What a run is doing, as its trainer says it.
 */
export type RunState = "failed" | "finished" | "paused" | "running" | "starting" | "stopped";
export type Command = Pause | Resume | Stop;
export type Outcome = Applied | Refused;
/**
 * How far a command has come.
 */
export type CommandStatus = "applied" | "received" | "refused";
/**
 * A session's state: that of its current run, or `lost`.
 *
 * `lost` is never written: it is what a reader finds when a run has not ended and its process is
 * gone.
 */
export type SessionState =
  "failed" | "finished" | "lost" | "paused" | "running" | "starting" | "stopped";
export type FromDashboard = Subscribe | Unsubscribe | CommandSubmission;
export type FromTrainer = TrainerHello | Batch | CommandReply;
export type ToDashboard =
  DashboardWelcome | Refusal | Batch | SessionChanged | SessionGone | CommandReply | Behind;
export type ToTrainer = TrainerWelcome | Refusal | Viewers | CommandDelivery;

/**
 * A training process opened the session.
 *
 * `versions` maps distribution names to the versions in use; `argv` is the command line.
 */
export interface ProcessStarted {
  argv: string[];
  host: string;
  kind: "process-started";
  pid: number;
  python: string;
  time: number;
  versions: {
    [k: string]: string;
  };
}
/**
 * A run came into being. `parents` names the runs it grew from; a baseline has none.
 */
export interface RunStarted {
  kind: "run-started";
  parents?: string[];
  run: string;
  time: number;
}
/**
 * A run's state changed at `step`. `reason` says why, where it is not obvious.
 */
export interface StateChanged {
  kind: "state-changed";
  reason?: string;
  run: string;
  state: RunState;
  step: number;
  time: number;
}
/**
 * Epoch `epoch` (from 1) began; its first step is `step + 1`.
 */
export interface EpochStarted {
  epoch: number;
  kind: "epoch-started";
  run: string;
  step: number;
  time: number;
}
/**
 * Measurements of some steps, in columns.
 *
 * `steps` and `times` have one entry per step, and each list in `values` has one entry per step.
 * An entry `null` was measured and is not finite; a metric that was not measured at these steps
 * is not in `values`.
 */
export interface Metrics {
  kind: "metrics";
  run: string;
  steps: number[];
  times: number[];
  values: {
    [k: string]: (number | null)[];
  };
}
/**
 * A line of the run's log. `level` is the number of Python's `logging` (20 is INFO).
 */
export interface LogLine {
  kind: "log";
  level: number;
  logger: string;
  run: string;
  step: number;
  text: string;
  time: number;
}
/**
 * A checkpoint was written. `size` is in bytes; a relative `path` is relative to the session.
 */
export interface CheckpointSaved {
  kind: "checkpoint-saved";
  label: string;
  path: string;
  run: string;
  sha256: string;
  size: number;
  step: number;
  time: number;
}
/**
 * The live weights were evaluated over one split (`validation` or `test`) at `step`.
 *
 * `values` are means over `samples` samples; `null` is a mean that is not finite.
 */
export interface EvaluationFinished {
  kind: "evaluation-finished";
  run: string;
  samples: number;
  split: string;
  step: number;
  time: number;
  values: {
    [k: string]: number | null;
  };
}
/**
 * A command was received by the training process, or was applied or refused at `step`.
 */
export interface CommandChanged {
  author: string;
  command: Command;
  id: string;
  kind: "command-changed";
  outcome?: Outcome | null;
  run: string;
  status: CommandStatus;
  step: number;
  time: number;
}
/**
 * Hold training at the next safe point; the step count stays until `Resume`.
 */
export interface Pause {
  kind: "pause";
}
/**
 * Let a paused run go on.
 */
export interface Resume {
  kind: "resume";
}
/**
 * End training at the next safe point. A checkpoint is saved, and the script goes on.
 */
export interface Stop {
  kind: "stop";
}
/**
 * The command took effect at `step`. `message` says what is the case now.
 */
export interface Applied {
  kind: "applied";
  message?: string;
  step: number;
}
/**
 * The command changed nothing. `reason` says why, and what would work instead.
 */
export interface Refused {
  kind: "refused";
  reason: string;
}
/**
 * The store could not be written for so long that `count` records had to be given up.
 */
export interface RecordsDropped {
  count: number;
  kind: "records-dropped";
  reason: string;
  run: string;
  time: number;
}
/**
 * Consecutive events of one session; the first has `seq` `first`, the next `first + 1`, ...
 */
export interface Batch {
  events: AnyEvent[];
  first: number;
  frame: "batch";
  session: string;
}
/**
 * The dashboard read too slowly: events were left out. Take a new snapshot of `session`.
 */
export interface Behind {
  frame: "behind";
  session: string;
}
/**
 * A command for the trainer.
 */
export interface CommandDelivery {
  frame: "command-delivery";
  request: CommandRequest;
}
/**
 * A command on its way. `id` is chosen by the asker; `author` says who asks.
 */
export interface CommandRequest {
  author: string;
  command: Command;
  id: string;
}
/**
 * The one answer to the command `id`.
 */
export interface CommandReply {
  frame: "command-reply";
  id: string;
  outcome: Outcome;
  session: string;
}
/**
 * A dashboard asks for a command; the answer is a `CommandReply` with the same `id`.
 */
export interface CommandSubmission {
  command: Command;
  frame: "command-submission";
  id: string;
  session: string;
}
/**
 * The server greets a dashboard with all sessions it knows.
 */
export interface DashboardWelcome {
  frame: "dashboard-welcome";
  home: string;
  protocol: number;
  server_version: string;
  sessions: SessionSummary[];
}
/**
 * A session at a glance. `connected` says whether its trainer is linked to this server.
 */
export interface SessionSummary {
  connected?: boolean;
  created: number;
  id: string;
  last_seq: number;
  project: string;
  runs: RunSummary[];
  state: SessionState;
  updated: number;
}
/**
 * A run at a glance. `latest` holds each metric's newest value (`null`: not finite).
 */
export interface RunSummary {
  created: number;
  epoch: number;
  latest: {
    [k: string]: number | null;
  };
  name: string;
  parents: string[];
  reason: string;
  state: RunState;
  step: number;
  updated: number;
}
/**
 * Send every event of `session` whose `seq` is greater than `after`, and all that follow.
 */
export interface Subscribe {
  after: number;
  frame: "subscribe";
  session: string;
}
/**
 * Send no more events of `session`.
 */
export interface Unsubscribe {
  frame: "unsubscribe";
  session: string;
}
/**
 * A trainer introduces itself. `last_seq` is the newest event in its store.
 */
export interface TrainerHello {
  frame: "trainer-hello";
  last_seq: number;
  protocol?: number;
  session: string;
  versions?: {
    [k: string]: string;
  };
}
/**
 * A line of the log together with its `seq`, by which the log is paged.
 */
export interface LogEntry {
  line: LogLine;
  seq: number;
}
/**
 * Lines in ascending `seq`; `more` says whether older ones exist before the first.
 */
export interface LogPage {
  entries: LogEntry[];
  more: boolean;
}
/**
 * The server does not take the peer in. `reason` and `remedy` are sentences for a person.
 */
export interface Refusal {
  frame: "refusal";
  reason: string;
  remedy: string;
}
/**
 * One metric of one run: `count` points in the store, thinned out to those listed here.
 *
 * Minima, maxima, the first, the last and every non-finite (`null`) region survive the thinning.
 */
export interface Series {
  count: number;
  name: string;
  run: string;
  steps: number[];
  values: (number | null)[];
}
/**
 * A session appeared or changed: its state, its connection, its runs.
 */
export interface SessionChanged {
  frame: "session-changed";
  session: SessionSummary;
}
/**
 * A session's folder is no longer there.
 */
export interface SessionGone {
  frame: "session-gone";
  session: string;
}
/**
 * A session as it was when its newest event was `seq`. Everything later comes as batches.
 */
export interface Snapshot {
  checkpoints?: CheckpointSaved[];
  commands: CommandChanged[];
  dropped?: RecordsDropped[];
  epochs: EpochStarted[];
  evaluations: EvaluationFinished[];
  log: LogPage;
  seq: number;
  series: Series[];
  session: SessionSummary;
}
/**
 * The server takes the trainer in; `viewers` dashboards are open.
 */
export interface TrainerWelcome {
  frame: "trainer-welcome";
  server_version: string;
  viewers: number;
}
/**
 * The number of open dashboards has changed.
 */
export interface Viewers {
  count: number;
  frame: "viewers";
}
