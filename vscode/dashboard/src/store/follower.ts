import { RequestError } from "../transport/transport";
import type { Batch, FromDashboard, Snapshot } from "../wire/types";
import { SessionModel } from "./session";

export interface FollowerParts {
  request(path: string): Promise<unknown>;
  send(frame: FromDashboard): void;
  /** The model, its place or the problem has changed. */
  onChange(): void;
  /** A snapshot came, which may also answer commands whose reply was lost. */
  onSnapshot(snapshot: Snapshot): void;
}

/** Points per series in a snapshot: enough for a wide chart on a dense screen. */
const SNAPSHOT_POINTS = 2000;
const RETRY_MS = 1000;

/** Keeps the model of one session at a time complete: every event once, in order. */
export class Follower {
  readonly #parts: FollowerParts;
  /** The session being followed; `model` is `null` until its first snapshot is there. */
  session: string | null = null;
  model: SessionModel | null = null;
  /** Why there is no fresh snapshot, when there should be one. */
  problem: string | null = null;
  #online = false;
  /** Counts the snapshots asked for, so that an answer that comes too late is known as such. */
  #generation = 0;
  #isCurrent = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(parts: FollowerParts) {
    this.#parts = parts;
  }

  follow(session: string | null): void {
    if (session === this.session) return;
    if (this.session !== null) this.#unsubscribe();
    this.session = session;
    this.model = null;
    this.problem = null;
    this.#isCurrent = false;
    this.#generation += 1;
    if (session !== null && this.#online) void this.#takeSnapshot();
    this.#parts.onChange();
  }

  /** A connection stands: go on after the last event applied. */
  connected(): void {
    this.#online = true;
    if (this.session === null) return;
    if (this.model && this.#isCurrent) this.#subscribe(this.model);
    else void this.#takeSnapshot();
  }

  disconnected(): void {
    this.#online = false;
    this.#generation += 1;
    clearTimeout(this.#retry);
  }

  batch(batch: Batch): void {
    // While a snapshot is under way, what comes is either in it or comes again after it.
    if (batch.session !== this.session || !this.model || !this.#isCurrent) return;
    if (this.model.applyBatch(batch)) this.#parts.onChange();
    else this.restart();
  }

  /** Events are missing: begin again from a snapshot. */
  restart(): void {
    this.#unsubscribe();
    this.#isCurrent = false;
    if (this.#online) void this.#takeSnapshot();
  }

  async #takeSnapshot(): Promise<void> {
    const { session } = this;
    if (session === null) return;
    clearTimeout(this.#retry);
    const generation = ++this.#generation;
    const path = `api/sessions/${encodeURIComponent(session)}/snapshot?points=${SNAPSHOT_POINTS}`;
    try {
      const snapshot = (await this.#parts.request(path)) as Snapshot;
      if (generation !== this.#generation) return;
      this.#parts.onSnapshot(snapshot);
      this.model = new SessionModel(snapshot);
      this.problem = null;
      this.#isCurrent = true;
      this.#subscribe(this.model);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      if (generation !== this.#generation) return;
      this.problem = error.message;
      this.#retry = setTimeout(() => void this.#takeSnapshot(), RETRY_MS);
    }
    this.#parts.onChange();
  }

  #subscribe(model: SessionModel): void {
    this.#parts.send({ frame: "subscribe", session: model.id, after: model.seq });
  }

  #unsubscribe(): void {
    if (this.#online && this.session !== null) {
      this.#parts.send({ frame: "unsubscribe", session: this.session });
    }
  }
}
