import { isKnownEvent } from "../wire/frames";
import type {
  AnyEvent,
  Batch,
  EpochStarted,
  EvaluationFinished,
  Metrics,
  RecordsDropped,
  SessionState,
  SessionSummary,
  Snapshot,
} from "../wire/types";
import { LogBook } from "./log";
import { checkpointMark, commandMark, droppedMark, evaluationMark } from "./marks";
import { MetricsBook } from "./metrics";
import { isFinal, newRun, runOf, type Run } from "./run";

/** One session, built from a snapshot and kept up to date by the events after it. */
export class SessionModel {
  readonly id: string;
  readonly project: string;
  readonly created: number;
  readonly runs = new Map<string, Run>();
  readonly metrics = new MetricsBook();
  readonly log = new LogBook();
  /** The newest evaluation of each run over each split. */
  readonly evaluations = new Map<string, EvaluationFinished>();
  readonly epochs: EpochStarted[];
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
    for (const evaluation of snapshot.evaluations) this.#evaluate(evaluation);
    for (const command of snapshot.commands) this.log.mark(commandMark(command));
    for (const checkpoint of snapshot.checkpoints ?? []) this.log.mark(checkpointMark(checkpoint));
    for (const dropped of snapshot.dropped ?? []) this.#drop(dropped);
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

  get state(): SessionState {
    const state = this.currentRun?.state ?? "starting";
    return this.#lostAt >= this.seq && !isFinal(state) ? "lost" : state;
  }

  /** Apply what the server says of the whole session, unless the events have told more already. */
  applySummary(summary: SessionSummary): void {
    this.connected = summary.connected ?? false;
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
        return;
      case "run-started":
        this.runs.set(event.run, newRun(event.run, event.parents ?? [], event.time));
        return;
      case "state-changed":
        this.#touch(event.run, event.time, {
          state: event.state,
          reason: event.reason ?? "",
          step: event.step,
        });
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
        this.log.mark(checkpointMark(event));
        return;
      case "evaluation-finished":
        this.#evaluate(event);
        return;
      case "command-changed":
        this.log.mark(commandMark(event));
        return;
      case "records-dropped":
        this.#drop(event);
        return;
    }
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
    this.log.mark(evaluationMark(event));
  }

  #touch(name: string, time: number, change: Partial<Run>): Run {
    const run = this.runs.get(name) ?? newRun(name, [], time);
    Object.assign(run, change, { updated: Math.max(run.updated, time) });
    this.runs.set(name, run);
    return run;
  }
}
