import { batch, signal, type ReadonlySignal } from "@preact/signals";
import type { ClosedReason, Transport } from "../transport/transport";
import { decodeFrame, encodeFrame } from "../wire/frames";
import {
  PROTOCOL,
  type Batch,
  type Command,
  type FromDashboard,
  type LogPage,
  type Series,
  type SessionDetails,
  type SessionState,
  type SessionSummary,
  type ToDashboard,
} from "../wire/types";
import { CommandTracker } from "./commands";
import { Follower } from "./follower";
import { JobList } from "./jobs";
import { isFinal } from "./run";
import type { SessionModel } from "./session";
import { SessionList } from "./sessions";

/** How the page stands with the server. */
export type Connection =
  | { kind: "connecting" }
  | { kind: "open" }
  | { kind: "closed"; reason: ClosedReason }
  | { kind: "refused"; reason: string; remedy: string };

export interface DashboardParts {
  transport: Transport;
  /** The session picked before the page was last left. */
  picked: string | null;
  onPick(session: string | null): void;
  newId(): string;
  /** Given what shows the changes, returns how to ask for it; see `createPacer`. */
  pace(draw: () => void): () => void;
}

/** Everything that is shown, and everything that can be asked for. */
export class Dashboard {
  readonly #parts: DashboardParts;
  readonly #list = new SessionList();
  readonly #tracker = new CommandTracker();
  readonly #follower: Follower;
  readonly #jobs: JobList;
  readonly #changed: () => void;
  readonly #connection = signal<Connection>({ kind: "connecting" });
  readonly #picked = signal<string | null>(null);
  readonly #sessions = signal<SessionSummary[]>([]);
  readonly #frame = signal(0);
  /** The session that the person has begun to look at, without picking it. */
  #held: string | null = null;
  /** The newest session that came while the person was looking at another one. */
  #newcomer: string | null = null;
  /** Whether a welcome has ever come: before it, an empty list says nothing. */
  #isWelcomed = false;
  /** The server's protocol, when it is not the one this page was built for. */
  #foreignProtocol: number | null = null;

  constructor(parts: DashboardParts) {
    this.#parts = parts;
    this.#picked.value = parts.picked;
    this.#changed = parts.pace(() => this.#show());
    this.#jobs = new JobList({
      transport: parts.transport,
      newId: () => parts.newId(),
      onChange: this.#changed,
    });
    this.#follower = new Follower({
      request: (path) => parts.transport.request(path),
      send: (frame) => this.#send(frame),
      onChange: this.#changed,
      onSnapshot: ({ session, commands }) => {
        this.#tracker.recorded(session.id, commands);
        if (session.connected !== true) this.#tracker.trainerLost(session.id);
      },
    });
  }

  get connection(): ReadonlySignal<Connection> {
    return this.#connection;
  }

  /** The session the person chose; `null` while none is chosen. */
  get picked(): ReadonlySignal<string | null> {
    return this.#picked;
  }

  /** All sessions, the newest first. */
  get sessions(): ReadonlySignal<readonly SessionSummary[]> {
    return this.#sessions;
  }

  /**
   * Has the effect or the view that calls this run again when what the rest of this class
   * returns may have changed, at most once a frame.
   */
  track(): number {
    return this.#frame.value;
  }

  get isWelcomed(): boolean {
    return this.#isWelcomed;
  }

  get foreignProtocol(): number | null {
    return this.#foreignProtocol;
  }

  /** The id of the session shown, whether or not it could be read yet. */
  get selected(): string | null {
    return this.#follower.session;
  }

  /** Whether the next new session will be shown as soon as it comes. */
  get isFollowingNewest(): boolean {
    return this.#picked.value === null && this.#held === null;
  }

  /** A session that came while the person was looking at another one, until it is shown. */
  get newcomer(): SessionSummary | undefined {
    return this.#newcomer === null ? undefined : this.#list.get(this.#newcomer);
  }

  /** Whether a state is only what was last known: it may have changed since. */
  isOutdated(state: SessionState): boolean {
    return this.#connection.value.kind !== "open" && !isFinal(state);
  }

  get model(): SessionModel | null {
    return this.#follower.model;
  }

  get problem(): string | null {
    return this.#follower.problem;
  }

  get commands(): CommandTracker {
    return this.#tracker;
  }

  /** The long work that the server does for this page. */
  get jobs(): JobList {
    return this.#jobs;
  }

  open(): void {
    this.#parts.transport.open({
      onClosed: (reason) => this.#closed(reason),
      onFrame: (text) => this.#receive(text),
    });
  }

  /** Show a session, and keep to it; `null` goes back to following the newest. */
  pick(session: string | null): void {
    if (session === this.#picked.value && this.#held === null) return;
    this.#held = null;
    if (session !== this.#picked.value) {
      this.#picked.value = session;
      this.#parts.onPick(session);
    }
    this.#follow();
    this.#changed();
  }

  /** The person has begun to look at the session shown: no new one takes its place by itself. */
  stay(): void {
    if (!this.isFollowingNewest || this.selected === null) return;
    this.#held = this.selected;
    this.#changed();
  }

  /** The session that came meanwhile is not wanted now. */
  dismissNewcomer(): void {
    this.#newcomer = null;
    this.#changed();
  }

  /** Ask for a command; its id is what `commands` knows it by. */
  submit(session: string, command: Command): string {
    const id = this.#parts.newId();
    const frame = this.#tracker.submit(id, session, command);
    if (!this.#parts.transport.send(encodeFrame(frame))) this.#tracker.connectionLost();
    this.#changed();
    return id;
  }

  /** What became of a command was read. */
  dismiss(session: string, command: string): void {
    this.#tracker.dismiss(session, command);
    this.#changed();
  }

  /** Everything about a session but its numbers: its checkpoints, and what it takes. */
  async loadDetails(session: string): Promise<SessionDetails> {
    return (await this.#parts.transport.request(`${pathOf(session)}/details`)) as SessionDetails;
  }

  /** Give a session a name, or take it away by an empty one; rejects with `RequestError`. */
  async rename(session: string, name: string): Promise<void> {
    const asking = { method: "PUT", body: { name } } as const;
    const renamed = await this.#parts.transport.request(`${pathOf(session)}/name`, asking);
    this.#list.change(renamed as SessionSummary);
    this.#summarise();
    this.#changed();
  }

  /** Load a page of the log before the lines that are held. */
  async loadOlderLog(model: SessionModel): Promise<void> {
    const before = model.log.oldest;
    if (before === undefined) return;
    const path = `${pathOf(model.id)}/logs?before=${before}&limit=1000`;
    model.log.prepend((await this.#parts.transport.request(path)) as LogPage);
    this.#changed();
  }

  /** One metric of some runs between two steps, in as much detail as `points` allow. */
  async loadDetail(query: {
    session: string;
    name: string;
    runs: readonly string[];
    from: number;
    to: number;
    points: number;
  }): Promise<Series[]> {
    const parameters = new URLSearchParams({
      name: query.name,
      points: String(query.points),
      from: String(query.from),
      to: String(query.to),
    });
    for (const run of query.runs) parameters.append("run", run);
    const path = `${pathOf(query.session)}/metrics?${parameters.toString()}`;
    return (await this.#parts.transport.request(path)) as Series[];
  }

  #receive(text: string): void {
    const frame = decodeFrame(text);
    if (!frame) return;
    this.#apply(frame);
    this.#changed();
  }

  #apply(frame: ToDashboard): void {
    switch (frame.frame) {
      case "dashboard-welcome":
        if (!this.#isWelcomed) void this.#jobs.rejoin();
        this.#isWelcomed = true;
        this.#foreignProtocol = frame.protocol === PROTOCOL ? null : frame.protocol;
        this.#connection.value = { kind: "open" };
        this.#welcome(frame.sessions);
        this.#follower.connected();
        return;
      case "refusal":
        this.#connection.value = { kind: "refused", reason: frame.reason, remedy: frame.remedy };
        return;
      case "session-changed":
        this.#noticeNew([frame.session]);
        this.#list.change(frame.session);
        if (frame.session.connected !== true) this.#tracker.trainerLost(frame.session.id);
        this.#summarise();
        this.#follow();
        return;
      case "session-gone":
        this.#list.remove(frame.session);
        // Whoever deletes what they had picked need not be told that it is gone.
        if (this.#picked.value === frame.session && this.#jobs.isDeleting(frame.session)) {
          this.pick(null);
        }
        this.#follow();
        return;
      case "batch":
        this.#track(frame);
        this.#follower.batch(frame);
        return;
      case "command-queued":
        this.#tracker.queued(frame);
        return;
      case "command-progress":
        this.#tracker.progressed(frame);
        return;
      case "command-reply":
        this.#tracker.reply(frame);
        return;
      case "behind":
        if (frame.session === this.#follower.session) this.#follower.restart();
        return;
    }
  }

  #track({ session, events }: Batch): void {
    for (const event of events) {
      if (event.kind === "command-changed") this.#tracker.changed(session, event);
      // Another process goes on with the session: it knows nothing of what the last one was asked.
      if (event.kind === "process-started") this.#tracker.trainerLost(session);
    }
  }

  #closed(reason: ClosedReason): void {
    if (this.#connection.value.kind !== "refused") {
      this.#connection.value = { kind: "closed", reason };
    }
    this.#tracker.connectionLost();
    this.#follower.disconnected();
    this.#changed();
  }

  #send(frame: FromDashboard): void {
    // Without a connection there is nothing to subscribe to: the next welcome does it.
    this.#parts.transport.send(encodeFrame(frame));
  }

  /** Give the model of the session shown what the server says of it. */
  #summarise(): void {
    const { model } = this.#follower;
    const summary = model && this.#list.get(model.id);
    if (summary) model.applySummary(summary);
  }

  #welcome(sessions: readonly SessionSummary[]): void {
    this.#noticeNew(sessions);
    this.#list.replace(sessions);
    this.#summarise();
    this.#follow();
  }

  /** Remember the newest session that was not there before, for as long as another is shown. */
  #noticeNew(sessions: readonly SessionSummary[]): void {
    const newest = this.#list.sorted()[0];
    if (!newest || this.isFollowingNewest) return;
    let since = this.newcomer?.created ?? newest.created;
    for (const { id, created } of sessions) {
      if (this.#list.get(id) !== undefined || created < since) continue;
      this.#newcomer = id;
      since = created;
    }
  }

  #follow(): void {
    const known = (id: string | null) => (id !== null && this.#list.get(id) ? id : null);
    const newest = this.#list.sorted()[0]?.id ?? null;
    this.#held = known(this.#held);
    const shown = known(this.#picked.value) ?? this.#held ?? newest;
    if (shown === this.#newcomer) this.#newcomer = null;
    this.#follower.follow(shown);
  }

  #show(): void {
    batch(() => {
      this.#sessions.value = this.#list.sorted();
      this.#frame.value += 1;
    });
  }
}

function pathOf(session: string): string {
  return `api/sessions/${encodeURIComponent(session)}`;
}
