/* Generated from schema.json; do not edit, run `npm run wire`. */

/** Raised when an older peer could misread a frame. */
export const PROTOCOL = 1;

export type AnyEvent =
  | ProcessStarted
  | RunStarted
  | Rewound
  | StateChanged
  | EpochStarted
  | Metrics
  | LogLine
  | CheckpointSaved
  | CheckpointRemoved
  | CheckpointFailed
  | EvaluationFinished
  | CommandChanged
  | HyperparametersDeclared
  | LimitsChanged
  | NoteAdded
  | DeterminismAssessed
  | GuardTripped
  | HealthReported
  | StallNoticed
  | StallEnded
  | RecordsDropped;
/**
 * What a run is doing, as its trainer says it.
 */
export type RunState = "failed" | "finished" | "paused" | "running" | "starting" | "stopped";
export type Command =
  | Pause
  | Resume
  | RunFor
  | Stop
  | Cancel
  | SaveCheckpoint
  | LoadCheckpoint
  | Reset
  | Test
  | Validate
  | SetHyperparameters
  | Extend
  | Note
  | Prove
  | CheckHealth;
export type Outcome = Applied | Refused;
export type Result =
  | CheckpointWritten
  | Rewinding
  | Evaluation
  | HyperparametersSet
  | LimitsSet
  | Released
  | Proof
  | HealthChecked;
/**
 * How much a finding matters.
 *
 * `critical`: training comes to nothing as it is. `warning`: it is worse, or slower, than it could
 * be. `info`: worth knowing.
 */
export type Severity = "critical" | "info" | "warning";
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
export type FromTrainer = TrainerHello | Batch | CommandReply | CommandProgress;
export type JobResult =
  BundleMade | SessionImported | SessionVerified | SessionDeleted | MetricsMade;
export type ToDashboard =
  | DashboardWelcome
  | Refusal
  | Batch
  | SessionChanged
  | SessionGone
  | CommandQueued
  | CommandProgress
  | CommandReply
  | Behind;
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
 *
 * One that began from a checkpoint names it, and the step it holds.
 */
export interface RunStarted {
  checkpoint?: string;
  kind: "run-started";
  parents?: string[];
  run: string;
  step?: number;
  time: number;
}
/**
 * A run went back to `step`, from `left_step`, as `checkpoint` holds it.
 *
 * What it recorded after `step` until now is no longer part of its curves. `exact` is false where
 * a part of the state could not be restored; `findings` says which.
 */
export interface Rewound {
  checkpoint: string;
  epoch: number;
  exact?: boolean;
  findings?: string[];
  kind: "rewound";
  left_step: number;
  reason?: string;
  run: string;
  step: number;
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
 *
 * `label` says what it was written for: `initial` (before step 1), `best` (validation), `final`,
 * `periodic`, `interrupted`, or the name a person gave it. A pinned one stays until it is deleted;
 * of the others a run keeps the newest few. `score` is what makes a `best` one the best: its
 * validation loss.
 */
export interface CheckpointSaved {
  epoch?: number;
  id?: string;
  kind: "checkpoint-saved";
  label: string;
  path: string;
  pinned?: boolean;
  run: string;
  score?: number | null;
  sha256: string;
  size: number;
  step: number;
  time: number;
}
/**
 * A checkpoint's file was deleted, or is no longer kept, because of `reason`.
 */
export interface CheckpointRemoved {
  id: string;
  kind: "checkpoint-removed";
  reason: string;
  run: string;
  time: number;
}
/**
 * A checkpoint could not be written; training went on without it.
 */
export interface CheckpointFailed {
  kind: "checkpoint-failed";
  label: string;
  reason: string;
  run: string;
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
 *
 * `phase` says where training was: `between` epochs, `train`, `validate`, `test` or `end`. A
 * replay needs it.
 */
export interface CommandChanged {
  author: string;
  command: Command;
  id: string;
  kind: "command-changed";
  outcome?: Outcome | null;
  phase?: string;
  run: string;
  status: CommandStatus;
  step: number;
  time: number;
}
/**
 * Hold training at the next safe point; the step count stays until `Resume`.
 *
 * With `release`, what the model and the optimizer hold on the device moves to host memory, and
 * the device's caches are emptied; `Resume` moves it back bit for bit.
 */
export interface Pause {
  kind: "pause";
  release?: boolean;
}
/**
 * Let a paused run go on.
 */
export interface Resume {
  kind: "resume";
}
/**
 * Go on for so many steps, or to the end of so many epochs, and pause there: one of the two.
 */
export interface RunFor {
  epochs?: number | null;
  kind: "run-for";
  steps?: number | null;
}
/**
 * End training at the next safe point. A checkpoint is saved, and the script goes on.
 */
export interface Stop {
  kind: "stop";
}
/**
 * Break off the long command (test, validate, prove, health) with the id `command`, or any ('').
 */
export interface Cancel {
  command?: string;
  kind: "cancel";
}
/**
 * Write the whole state down. A named or pinned checkpoint is kept until it is deleted.
 */
export interface SaveCheckpoint {
  kind: "save-checkpoint";
  name?: string;
  pin?: boolean;
}
/**
 * Go back to a checkpoint of any run of the session: to training exactly as it was then.
 *
 * In place, the checkpoint's own run goes on from there, and what it recorded after that step
 * counts as rewound. With `as_new_run`, a new run begins there, called `run` or numbered.
 * `checkpoint` is an id, or `RUN@STEP`, `RUN@NAME`, or `initial`, `best`, `latest` of this run.
 */
export interface LoadCheckpoint {
  as_new_run?: boolean;
  checkpoint: string;
  kind: "load-checkpoint";
  run?: string;
}
/**
 * Begin again from the state before step 1, as a new run, called `run` or numbered.
 */
export interface Reset {
  kind: "reset";
  run?: string;
}
/**
 * Evaluate the live weights on the test data; training is not disturbed.
 */
export interface Test {
  kind: "test";
}
/**
 * Evaluate the live weights on the validation data; training is not disturbed.
 */
export interface Validate {
  kind: "validate";
}
/**
 * Change hyperparameters: all of `values`, or none where one of them is refused.
 *
 * A name is a numeric entry of the optimizer's parameter groups (`lr`, `weight_decay`,
 * `betas.0`), of one `group` or of all; `grad_clip_norm` (0: off); or what the script registered
 * as tunable. A learning rate that a scheduler governs is scaled: the scheduler goes on, times
 * the new value over its own. With `hold` it stays at the new value until it is released by
 * `hold` false.
 */
export interface SetHyperparameters {
  group?: number | null;
  hold?: boolean | null;
  kind: "set-hyperparameters";
  values?: {
    [k: string]: boolean | number | string;
  };
}
/**
 * Train longer than planned, by so many epochs or steps; also while lingering at the end.
 */
export interface Extend {
  epochs?: number;
  kind: "extend";
  steps?: number;
}
/**
 * A person's remark, pinned to `step`, by default to the step where the run is.
 */
export interface Note {
  kind: "note";
  step?: number | null;
  text: string;
}
/**
 * Train `steps` steps, go back, train them again, and compare bit for bit.
 *
 * Afterwards the run is as it was. The first difference is named.
 */
export interface Prove {
  kind: "prove";
  steps?: number;
}
/**
 * Check the run's health, by one of the checks or by `all`; training is not disturbed.
 *
 * With `every`, the check is made again every so many steps from here on, and by 0 no longer. With
 * `proof`, the check of determinism also trains so many steps twice and compares them.
 */
export interface CheckHealth {
  check?: string;
  every?: number | null;
  kind: "health";
  proof?: number;
}
/**
 * The command took effect at `step`. `message` says what is the case now.
 *
 * `result` is what a command that has one brought about, such as the values that were applied.
 */
export interface Applied {
  kind: "applied";
  message?: string;
  result?: Result | null;
  step: number;
}
/**
 * The checkpoint `id` is on disk; `size` is in bytes.
 */
export interface CheckpointWritten {
  id: string;
  kind: "checkpoint-written";
  path: string;
  sha256: string;
  size: number;
}
/**
 * Training is at `step` of `run`, as the checkpoint `checkpoint` holds it.
 *
 * `exact` is false where a part of the state could not be restored; `findings` says which.
 */
export interface Rewinding {
  checkpoint: string;
  exact?: boolean;
  findings?: string[];
  kind: "rewinding";
  run: string;
  step: number;
}
/**
 * Means over `samples` samples of a split; `null` is a mean that is not finite.
 */
export interface Evaluation {
  kind: "evaluation";
  samples: number;
  split: string;
  values: {
    [k: string]: number | null;
  };
}
/**
 * What was changed, and who owns the learning rate from now on, as a sentence.
 */
export interface HyperparametersSet {
  changes: HyperparameterChange[];
  kind: "hyperparameters-set";
  lr_rule?: string;
}
/**
 * One hyperparameter before, as it was asked for, and as it is now.
 *
 * `group` is the parameter group; none for what has no groups.
 */
export interface HyperparameterChange {
  applied?: boolean | number | string | null;
  before?: boolean | number | string | null;
  group?: number | null;
  name: string;
  requested?: boolean | number | string | null;
}
/**
 * Where training ends now (`null`: no such limit), and where it pauses, if anywhere.
 */
export interface LimitsSet {
  kind: "limits-set";
  max_epochs?: number | null;
  max_steps?: number | null;
  pause_after_epoch?: number | null;
  pause_at_step?: number | null;
}
/**
 * `moved` bytes went to host memory; the device has `freed` bytes more than before.
 */
export interface Released {
  device: string;
  freed: number;
  kind: "released";
  moved: number;
}
/**
 * `steps` steps were trained twice; `exact` says whether every bit was the same.
 *
 * Otherwise `difference` names what differed first, `step` where, and `hint` what to do.
 */
export interface Proof {
  difference?: string;
  exact: boolean;
  hint?: string;
  kind: "proof";
  step?: number | null;
  steps: number;
}
/**
 * What each check that was asked for came to.
 */
export interface HealthChecked {
  kind: "health-checked";
  reports: HealthReport[];
}
/**
 * What one check came to, the gravest finding first.
 *
 * `measures` are the numbers that it took (`null`: not finite), `facts` what it saw in words, and
 * `seconds` how long it took. `refusal` says why the check could not be made; then there is
 * nothing else.
 */
export interface HealthReport {
  check: string;
  facts?: {
    [k: string]: string;
  };
  findings?: HealthFinding[];
  measures?: {
    [k: string]: number | null;
  };
  refusal?: string;
  seconds?: number;
}
/**
 * One thing that a check found.
 *
 * `where` is the layer, tensor, loader or process by its name; empty for the run as a whole.
 * `what` is the finding as a sentence, `value` what was measured, with its unit, `meaning` what it
 * does to training, and `remedy` what to try.
 */
export interface HealthFinding {
  meaning: string;
  remedy: string;
  severity: Severity;
  value: string;
  what: string;
  where: string;
}
/**
 * The command changed nothing. `reason` says why, and what would work instead.
 */
export interface Refused {
  kind: "refused";
  reason: string;
}
/**
 * All hyperparameters as they are from here on: at a run's start and after each change.
 *
 * `lr_owner` is `constant`, `scheduler`, `scaled` (the scheduler's value times `lr_factors`, one
 * per group) or `held` (by hand); `lr_rule` says it as a sentence.
 */
export interface HyperparametersDeclared {
  kind: "hyperparameters-declared";
  lr_factors?: number[];
  lr_owner: string;
  lr_rule: string;
  run: string;
  step: number;
  time: number;
  values: Hyperparameter[];
}
/**
 * One value that can be changed while training runs, with its bounds (`null`: none).
 *
 * `group` is the optimizer's parameter group, `null` for what has no groups.
 */
export interface Hyperparameter {
  group?: number | null;
  high?: number | null;
  low?: number | null;
  name: string;
  value: boolean | number | string;
}
/**
 * Where the run ends from here on (`null`: no such limit), and where it pauses, if anywhere.
 */
export interface LimitsChanged {
  kind: "limits-changed";
  max_epochs?: number | null;
  max_steps?: number | null;
  pause_after_epoch?: number | null;
  pause_at_step?: number | null;
  run: string;
  step: number;
  steps_per_epoch?: number | null;
  time: number;
}
/**
 * A person's remark, pinned to `step`.
 */
export interface NoteAdded {
  author: string;
  kind: "note-added";
  run: string;
  step: number;
  text: string;
  time: number;
}
/**
 * What is known beforehand: whether going back and resuming will be exact, or why not.
 */
export interface DeterminismAssessed {
  exact: boolean;
  findings?: string[];
  kind: "determinism-assessed";
  run: string;
  time: number;
}
/**
 * A guard found at `step` what it looks for, and did what its user set: warn, pause or stop.
 *
 * `indices` are the dataset indices of that step's batch (positions in an iterable dataset),
 * where they are known; `checkpoint` is the last one before the step.
 */
export interface GuardTripped {
  action: string;
  checkpoint?: string;
  guard: string;
  indices?: number[];
  kind: "guard-tripped";
  message: string;
  run: string;
  step: number;
  time: number;
  value?: number | null;
}
/**
 * A check of the run's health was made at `step`; `author` asked for it, or `schedule` did.
 */
export interface HealthReported {
  author?: string;
  kind: "health-reported";
  report: HealthReport;
  run: string;
  step: number;
  time: number;
}
/**
 * Nothing has moved for `seconds` in `phase`; `stack` is where the training thread is.
 *
 * `phase` is `first batch`, `compile`, `train`, `data`, `validate`, `test` or `save`. The watchdog
 * only tells.
 */
export interface StallNoticed {
  kind: "stall-noticed";
  phase: string;
  run: string;
  seconds: number;
  stack: string;
  step: number;
  time: number;
}
/**
 * Training moves again, after `seconds` in which it had not.
 */
export interface StallEnded {
  kind: "stall-ended";
  phase: string;
  run: string;
  seconds: number;
  step: number;
  time: number;
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
 * A bundle of `size` bytes waits to be fetched. `notes` say what is not in it, and why.
 */
export interface BundleMade {
  checkpoints: number;
  file: string;
  final_models: number;
  kind: "export";
  notes?: string[];
  runs: string[];
  size: number;
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
 * How far a long command is: `done` of `total` (0: unknown), in `unit`, such as `batches`.
 */
export interface CommandProgress {
  done: number;
  frame: "command-progress";
  id: string;
  session: string;
  total: number;
  unit: string;
}
/**
 * The server has passed a command on to its trainer, which has not yet said it received it.
 */
export interface CommandQueued {
  frame: "command-queued";
  request: CommandRequest;
  session: string;
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
 *
 * `name` is what a person calls it; empty where nobody has named it.
 */
export interface SessionSummary {
  connected?: boolean;
  created: number;
  id: string;
  last_seq: number;
  name?: string;
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
 * A file that is not as it was written, and what is wrong with it.
 */
export interface Fault {
  name: string;
  problem: string;
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
 * A job, and how far it is: `done` of `total` bytes or points (0: not known yet).
 *
 * `session` is the id of the session that it is about, and `name` how a person knows that, or the
 * bundle that is imported. `error` says why it failed.
 */
export interface Job {
  done?: number;
  error?: string;
  id: string;
  kind: "delete" | "export" | "import" | "metrics" | "verify";
  name: string;
  result?: JobResult | null;
  session: string;
  state: "cancelled" | "done" | "failed" | "running";
  total?: number;
}
/**
 * A bundle is a session of this home now. `original` is the id that it had elsewhere.
 */
export interface SessionImported {
  checkpoints: number;
  final_models: number;
  kind: "import";
  notes?: string[];
  original: string;
  project: string;
  runs: string[];
  session: string;
  size: number;
}
/**
 * Every byte of a session was looked at: `files` files of `size` bytes, less `faults`.
 */
export interface SessionVerified {
  faults?: Fault[];
  files: number;
  kind: "verify";
  ok: boolean;
  size: number;
}
/**
 * A session is gone, and `freed` bytes are free.
 */
export interface SessionDeleted {
  freed: number;
  kind: "delete";
}
/**
 * A file with `points` values waits to be fetched.
 *
 * `damage` says why there are not all, where that is so.
 */
export interface MetricsMade {
  damage?: string;
  file: string;
  kind: "metrics";
  points: number;
  size: number;
}
/**
 * A checkpoint as the record has it. `missing`: its file is gone, though nobody removed it.
 */
export interface KeptCheckpoint {
  epoch: number;
  id: string;
  label: string;
  missing: boolean;
  path: string;
  pinned: boolean;
  run: string;
  size: number;
  step: number;
  time: number;
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
 * A session, its checkpoints, and where it lies.
 */
export interface SessionDetails {
  checkpoints: KeptCheckpoint[];
  connected?: boolean;
  created: number;
  folder: string;
  id: string;
  last_seq: number;
  name?: string;
  project: string;
  runs: RunSummary[];
  size: SessionSize;
  state: SessionState;
  updated: number;
}
/**
 * The bytes of a session's files.
 *
 * `database` is the record, `pinned` the checkpoints that stay until they are deleted, and
 * `checkpoints` those that make room for newer ones. `other` is the rest: models from a bundle,
 * and checkpoints that the record does not know.
 */
export interface SessionSize {
  checkpoints?: number;
  database?: number;
  other?: number;
  pinned?: number;
  total?: number;
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
 *
 * `checkpoints` are those that are kept. Of `hyperparameters`, `limits` and `determinism` the
 * newest of each run is here, of `health` the newest of each run and check, and of `stalls` the
 * last hundred.
 */
export interface Snapshot {
  checkpoint_failures?: CheckpointFailed[];
  checkpoints?: CheckpointSaved[];
  commands: CommandChanged[];
  determinism?: DeterminismAssessed[];
  dropped?: RecordsDropped[];
  epochs: EpochStarted[];
  evaluations: EvaluationFinished[];
  guards?: GuardTripped[];
  health?: HealthReported[];
  hyperparameters?: HyperparametersDeclared[];
  limits?: LimitsChanged[];
  log: LogPage;
  notes?: NoteAdded[];
  pauses?: StateChanged[];
  rewinds?: Rewound[];
  seq: number;
  series: Series[];
  session: SessionSummary;
  stalls?: (StallNoticed | StallEnded)[];
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
