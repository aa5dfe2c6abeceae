import { isKnownEvent } from "../wire/frames";
import type {
  AnyEvent,
  Batch,
  CheckpointFailed,
  CheckpointRemoved,
  CheckpointSaved,
  CommandChanged,
  DeterminismAssessed,
  EpochStarted,
  EvaluationFinished,
  GuardTripped,
  HealthReported,
  HyperparametersDeclared,
  LimitsChanged,
  Metrics,
  NoteAdded,
  RecordsDropped,
  Rewound,
  SessionState,
  SessionSummary,
  Snapshot,
  StallEnded,
  StallNoticed,
  StateChanged,
} from "../wire/types";
import { CheckpointBook } from "./checkpoints";
import { HealthBook } from "./health";
import { LogBook } from "./log";
import {
  checkpointMarker,
  checkpointMarkerKey,
  commandMarker,
  guardMarker,
  MarkerBook,
  noteMarker,
  pauseMarker,
  rewindMarker,
  testMarker,
} from "./markers";
import {
  checkpointFailureMark,
  checkpointMark,
  commandMark,
  determinismMark,
  droppedMark,
  evaluationMark,
  guardMark,
  healthMark,
  noteMark,
  removalMark,
  rewindMark,
  stallMark,
} from "./marks";
import { MetricsBook } from "./metrics";
import { undoes } from "./rewinds";
import { isFinal, newRun, runOf, type Run } from "./run";

/** One session, built from a snapshot and kept up to date by the events after it. */
export class SessionModel {
  readonly id: string;
  readonly project: string;
  readonly created: number;
  /** What a person calls it; empty where nobody has named it. */
  name = "";
  readonly runs = new Map<string, Run>();
  readonly metrics = new MetricsBook();
  readonly log = new LogBook();
  readonly markers = new MarkerBook();
  readonly checkpoints = new CheckpointBook();
  /** The newest evaluation of each run over each split. */
  readonly evaluations = new Map<string, EvaluationFinished>();
  /** The newest of each run. */
  readonly hyperparameters = new Map<string, HyperparametersDeclared>();
  readonly limits = new Map<string, LimitsChanged>();
  readonly determinism = new Map<string, DeterminismAssessed>();
  /** How often each guard has tripped, and the last time it did. */
  readonly guards = new Map<string, { newest: GuardTripped; count: number }>();
  readonly health = new HealthBook();
  readonly rewinds: Rewound[] = [];
  epochs: EpochStarted[];
  /** That nothing has moved for a while, as long as nothing does. */
  stall: StallNoticed | null = null;
  /** The newest event applied. */
  seq: number;
  /** Whether the trainer is linked to the server. */
  connected = false;
  /** Records that the trainer's store had to give up. */
  dropped = 0;
  /** The `seq` up to which the session's process is known to be gone. */
  #lostAt = -1;

  constructor(snapshot: Snapshot) {
    const { session } = snapshot;
    this.id = session.id;
    this.project = session.project;
    this.created = session.created;
    this.seq = snapshot.seq;
    this.epochs = [...snapshot.epochs];
    this.metrics.load(snapshot.series);
    this.log.prepend(snapshot.log);
    for (const event of snapshot.evaluations) this.#evaluate(event);
    for (const event of snapshot.commands) this.#command(event);
    for (const event of snapshot.checkpoints ?? []) this.#saveCheckpoint(event);
    for (const event of snapshot.checkpoint_failures ?? []) this.#failCheckpoint(event);
    for (const event of snapshot.hyperparameters ?? []) this.hyperparameters.set(event.run, event);
    for (const event of snapshot.limits ?? []) this.limits.set(event.run, event);
    for (const event of snapshot.determinism ?? []) this.#assess(event);
    for (const event of snapshot.notes ?? []) this.#note(event);
    for (const event of snapshot.guards ?? []) this.#guard(event);
    for (const event of snapshot.health ?? []) this.#healthReport(event);
    for (const event of snapshot.pauses ?? []) this.markers.add(pauseMarker(event));
    for (const event of snapshot.stalls ?? []) this.#stall(event);
    for (const event of snapshot.dropped ?? []) this.#drop(event);
    // Last: they undo what came before them. The series come without what was rewound.
    for (const event of snapshot.rewinds ?? []) this.#rewind(event);
    this.applySummary(session);
  }

  /** The run that moved last. */
  get currentRun(): Run | undefined {
    let current: Run | undefined;
    for (const run of this.runs.values()) {
      if (!current || run.updated >= current.updated) current = run;
    }
    return current;
  }

  /** The names of its runs, in the order in which they came into being. */
  get runNames(): string[] {
    return [...this.runs.keys()];
  }

  get state(): SessionState {
    const state = this.currentRun?.state ?? "starting";
    return this.#lostAt >= this.seq && !isFinal(state) ? "lost" : state;
  }

  /** Apply what the server says of the whole session, unless the events have told more already. */
  applySummary(summary: SessionSummary): void {
    this.connected = summary.connected ?? false;
    this.name = summary.name ?? "";
    if (summary.last_seq < this.seq) return;
    this.#lostAt = summary.state === "lost" ? summary.last_seq : -1;
    for (const run of summary.runs) this.runs.set(run.name, runOf(run));
  }

  /**
   * Apply the events of a batch that are new. `false` when events between the last one applied
   * and this batch are missing; then nothing was applied.
   */
  applyBatch(batch: Batch): boolean {
    if (batch.first > this.seq + 1) return false;
    for (const event of batch.events.slice(this.seq + 1 - batch.first)) {
      this.seq += 1;
      if (isKnownEvent(event)) this.#apply(event);
    }
    return true;
  }

  #apply(event: AnyEvent): void {
    switch (event.kind) {
      case "process-started":
        this.stall = null;
        return;
      case "run-started": {
        const { run, parents = [], time, step } = event;
        this.runs.set(run, newRun(run, parents, time, step));
        return;
      }
      case "rewound":
        this.#rewind(event);
        this.#goBack(event);
        return;
      case "state-changed":
        this.#changeState(event);
        return;
      case "epoch-started":
        this.epochs.push(event);
        this.#touch(event.run, event.time, { epoch: event.epoch, step: event.step });
        return;
      case "metrics":
        this.metrics.apply(event);
        this.#measure(event);
        return;
      case "log":
        this.log.append(this.seq, event);
        return;
      case "checkpoint-saved":
        this.#saveCheckpoint(event);
        return;
      case "checkpoint-removed":
        this.#removeCheckpoint(event);
        return;
      case "checkpoint-failed":
        this.#failCheckpoint(event);
        return;
      case "evaluation-finished":
        this.#evaluate(event);
        return;
      case "command-changed":
        this.#command(event);
        return;
      case "hyperparameters-declared":
        this.hyperparameters.set(event.run, event);
        return;
      case "limits-changed":
        this.limits.set(event.run, event);
        return;
      case "note-added":
        this.#note(event);
        return;
      case "determinism-assessed":
        this.#assess(event);
        return;
      case "guard-tripped":
        this.#guard(event);
        return;
      case "health-reported":
        this.#healthReport(event);
        return;
      case "stall-noticed":
      case "stall-ended":
        this.#stall(event);
        return;
      case "records-dropped":
        this.#drop(event);
        return;
    }
  }

  /** What was recorded after the step that a run went back to is no longer part of its curves. */
  #rewind(event: Rewound): void {
    this.rewinds.push(event);
    this.epochs = this.epochs.filter((epoch) => !undoes(event, epoch));
    this.markers.rewind(event);
    this.markers.add(rewindMarker(event));
    this.log.mark(rewindMark(event));
  }

  #goBack({ run, step, epoch, time }: Rewound): void {
    this.metrics.rewind(run, step);
    this.#touch(run, time, { step, epoch, latest: this.metrics.latest(run) });
  }

  #changeState(event: StateChanged): void {
    const { run, time, state, reason = "", step } = event;
    this.#touch(run, time, { state, reason, step });
    if (state === "paused") this.markers.add(pauseMarker(event));
    if (isFinal(state)) this.stall = null;
  }

  #saveCheckpoint(event: CheckpointSaved): void {
    this.checkpoints.save(event);
    this.markers.add(checkpointMarker(event));
    this.log.mark(checkpointMark(event));
  }

  #removeCheckpoint(event: CheckpointRemoved): void {
    const removed = this.checkpoints.remove(event);
    if (removed) this.markers.remove(checkpointMarkerKey(removed));
    this.log.mark(removalMark(event, removed));
  }

  #failCheckpoint(event: CheckpointFailed): void {
    this.checkpoints.fail(event);
    this.log.mark(checkpointFailureMark(event));
  }

  #command(event: CommandChanged): void {
    const marker = commandMarker(event);
    if (marker) this.markers.add(marker);
    this.log.mark(commandMark(event));
  }

  #note(event: NoteAdded): void {
    this.markers.add(noteMarker(event));
    this.log.mark(noteMark(event));
  }

  #assess(event: DeterminismAssessed): void {
    this.determinism.set(event.run, event);
    if (!event.exact) this.log.mark(determinismMark(event));
  }

  #guard(event: GuardTripped): void {
    const count = (this.guards.get(event.guard)?.count ?? 0) + 1;
    this.guards.set(event.guard, { newest: event, count });
    this.markers.add(guardMarker(event));
    this.log.mark(guardMark(event));
  }

  #healthReport(event: HealthReported): void {
    this.health.add(event);
    this.log.mark(healthMark(event));
  }

  #stall(event: StallNoticed | StallEnded): void {
    this.stall = event.kind === "stall-noticed" ? event : null;
    this.log.mark(stallMark(event));
  }

  #drop(event: RecordsDropped): void {
    this.dropped += event.count;
    this.log.mark(droppedMark(event));
  }

  #measure(event: Metrics): void {
    const step = event.steps.at(-1);
    const time = event.times.at(-1);
    if (step === undefined || time === undefined) return;
    const latest = Object.entries(event.values).map(([name, values]) => [
      name,
      values.at(-1) ?? null,
    ]);
    const run = this.#touch(event.run, time, {});
    run.step = Math.max(run.step, step);
    Object.assign(run.latest, Object.fromEntries(latest));
  }

  #evaluate(event: EvaluationFinished): void {
    this.evaluations.set(`${event.run} ${event.split}`, event);
    if (event.split === "test") this.markers.add(testMarker(event));
    this.log.mark(evaluationMark(event));
  }

  #touch(name: string, time: number, change: Partial<Run>): Run {
    const run = this.runs.get(name) ?? newRun(name, [], time);
    Object.assign(run, change, { updated: Math.max(run.updated, time) });
    this.runs.set(name, run);
    return run;
  }
}

/** Whether a run is at its end, and held there only because somebody watches. */
export function isLingering(model: SessionModel): boolean {
  const reason = model.currentRun?.reason ?? "";
  return model.state === "paused" && reason.startsWith("training is done");
}
