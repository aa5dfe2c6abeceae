import type {
  Command,
  CommandChanged,
  CommandProgress,
  CommandQueued,
  CommandReply,
  CommandSubmission,
  HealthChecked,
  Outcome,
} from "../wire/types";
import { worstOf } from "./health";

export type CommandKind = Command["kind"];

/**
 * How far a command has come. `sent`: it left this page. `queued`: the server passed it on.
 * `received`: the training process has it. `unconfirmed`: the connection was lost before the answer
 * came. `unanswered`: the training process ended without an answer.
 */
export type CommandStage =
  "sent" | "unconfirmed" | "unanswered" | "queued" | "received" | "applied" | "refused";

/** A command, whoever asked for it. */
export interface TrackedCommand {
  readonly id: string;
  readonly session: string;
  readonly command: Command;
  author: string;
  /** Whether this page asked for it. */
  isOwn: boolean;
  stage: CommandStage;
  /** Seconds since the Unix epoch when it was first heard of. */
  time: number;
  /** Where the run was when it was last heard of; `null` before it was received. */
  step: number | null;
  run: string;
  phase: string;
  outcome: Outcome | null;
  progress: Pick<CommandProgress, "done" | "total" | "unit"> | null;
  /** Whether its news were read: they came with a snapshot, or were dismissed. */
  isRead: boolean;
}

/** Who asks for the checks that were planned: what they find is told, that they were made is not. */
export const SCHEDULE = "schedule";

/** A stage is left only for a later one; what is in doubt is settled by anything. */
const RANKS: Record<CommandStage, number> = {
  sent: 1,
  unconfirmed: 0,
  unanswered: 0,
  queued: 2,
  received: 3,
  applied: 4,
  refused: 4,
};

const LONG: ReadonlySet<CommandKind> = new Set<CommandKind>(["test", "validate", "prove", "health"]);

/** Whether a command's work takes long enough to show how far it is, and to be broken off. */
export function isLong(kind: CommandKind): boolean {
  return LONG.has(kind);
}

/** Whether a command is on its way or being executed. */
export function isOpen({ stage }: TrackedCommand): boolean {
  return stage === "sent" || stage === "queued" || stage === "received";
}

/** Whether what came of a command is more than its control can show, and waits to be read. */
export function isLasting({ outcome }: TrackedCommand): boolean {
  if (outcome?.kind !== "applied" || !outcome.result) return false;
  const { result } = outcome;
  if (result.kind === "proof") return true;
  if (result.kind === "health-checked") return gravestOf(result) !== null;
  return result.kind === "rewinding" && result.exact === false;
}

/** The severity of what a check found that should not be overlooked, if anything. */
export function gravestOf({ reports }: HealthChecked): "critical" | "warning" | null {
  const worst = worstOf(reports.flatMap(({ findings = [] }) => findings));
  return worst === "info" ? null : worst;
}

/** Every command that was heard of, by this page's asking, from the server, or from the record. */
export class CommandTracker {
  readonly #sessions = new Map<string, Map<string, TrackedCommand>>();
  readonly #now: () => number;

  constructor(now: () => number = () => Date.now() / 1000) {
    this.#now = now;
  }

  /** The frame that asks for a command; the command counts as sent from now on. */
  submit(id: string, session: string, command: Command): CommandSubmission {
    for (const known of this.#of(session).values()) {
      if (known.isOwn && !isOpen(known) && !isLasting(known)) known.isRead = true;
    }
    const tracked = this.#add({ id, session, author: "dashboard", command });
    Object.assign(tracked, { isOwn: true, isRead: false });
    return { frame: "command-submission", id, session, command };
  }

  queued({ session, request }: CommandQueued): void {
    advance(this.#add({ ...request, session }), "queued");
  }

  progressed({ session, id, done, total, unit }: CommandProgress): void {
    const command = this.#of(session).get(id);
    if (!command) return;
    advance(command, "received");
    if (!isOpen(command)) return;
    command.progress = { done, total, unit };
    // A snapshot cannot tell whether what was received is still being executed; this can.
    command.isRead = false;
  }

  reply(reply: CommandReply): void {
    const command = this.#of(reply.session).get(reply.id);
    if (command) answer(command, reply.outcome);
  }

  /** The session's record of a command: it answers what a lost connection left open. */
  changed(session: string, event: CommandChanged): void {
    const { id, author, command, time } = event;
    const tracked = this.#add({ id, session, author, command });
    const { run, step, phase = "" } = event;
    Object.assign(tracked, { author, run, step, phase, time: Math.min(tracked.time, time) });
    if (event.outcome) answer(tracked, event.outcome);
    else advance(tracked, event.status);
  }

  /** What a snapshot tells of commands: it is no news, but of those that this page asked for. */
  recorded(session: string, events: readonly CommandChanged[]): void {
    for (const event of events) {
      const isNew = !this.#of(session).has(event.id);
      this.changed(session, event);
      const tracked = this.#of(session).get(event.id);
      if (isNew && tracked) tracked.isRead = true;
    }
  }

  /** The connection was lost: no reply comes any more, only the session's record. */
  connectionLost(): void {
    for (const commands of this.#sessions.values()) {
      for (const command of commands.values()) {
        if (isOpen(command)) command.stage = command.isOwn ? "unconfirmed" : "unanswered";
      }
    }
  }

  /** The training process is gone: what it had not answered it never will. */
  trainerLost(session: string): void {
    for (const command of this.#of(session).values()) {
      if (isOpen(command)) command.stage = command.isOwn ? "unconfirmed" : "unanswered";
    }
  }

  dismiss(session: string, id: string): void {
    const command = this.#of(session).get(id);
    if (command) command.isRead = true;
  }

  get(session: string, id: string): TrackedCommand | undefined {
    return this.#of(session).get(id);
  }

  /** How many commands of a session are known. */
  count(session: string): number {
    return this.#of(session).size;
  }

  /** All commands of a session, the newest first. */
  all(session: string): TrackedCommand[] {
    return [...this.#of(session).values()].sort((a, b) => b.time - a.time);
  }

  /** The kinds of the commands that this page asked for and that are on their way. */
  pending(session: string): Set<CommandKind> {
    const open = [...this.#of(session).values()].filter((one) => one.isOwn && isOpen(one));
    return new Set(open.map((one) => one.command.kind));
  }

  /** Long commands that are on their way or being executed, whoever asked. */
  running(session: string): TrackedCommand[] {
    return this.#unread(session, (one) => isOpen(one) && isLong(one.command.kind));
  }

  /** Commands of this page that came to nothing, or of which nothing is known. */
  failures(session: string): TrackedCommand[] {
    return this.#unread(
      session,
      (one) => one.isOwn && (one.stage === "refused" || one.stage === "unconfirmed"),
    );
  }

  /** What was brought about and should not be overlooked. */
  results(session: string): TrackedCommand[] {
    return this.#unread(session, (one) => one.stage === "applied" && isLasting(one));
  }

  /** The newest command that there is something to tell of and that none of the above tells of. */
  news(session: string): TrackedCommand | undefined {
    const told = new Set([
      ...this.running(session),
      ...this.failures(session),
      ...this.results(session),
    ]);
    const isNews = (one: TrackedCommand): boolean =>
      !told.has(one) && one.stage !== "unanswered" && one.author !== SCHEDULE;
    return this.#unread(session, isNews).at(-1);
  }

  #unread(session: string, isWanted: (command: TrackedCommand) => boolean): TrackedCommand[] {
    return [...this.#of(session).values()].filter((one) => !one.isRead && isWanted(one));
  }

  #of(session: string): Map<string, TrackedCommand> {
    const commands = this.#sessions.get(session) ?? new Map<string, TrackedCommand>();
    this.#sessions.set(session, commands);
    return commands;
  }

  #add(known: Pick<TrackedCommand, "id" | "session" | "author" | "command">): TrackedCommand {
    const commands = this.#of(known.session);
    const { id, session, author, command } = known;
    const tracked = commands.get(id) ?? {
      ...{ id, session, author, command },
      isOwn: false,
      stage: "sent",
      time: this.#now(),
      step: null,
      run: "",
      phase: "",
      outcome: null,
      progress: null,
      isRead: false,
    };
    commands.set(id, tracked);
    return tracked;
  }
}

function advance(command: TrackedCommand, stage: CommandStage): void {
  if (RANKS[stage] > RANKS[command.stage]) command.stage = stage;
}

function answer(command: TrackedCommand, outcome: Outcome): void {
  advance(command, outcome.kind);
  // The record's answer and the reply are the same; the first to come is kept.
  command.outcome ??= outcome;
  if (outcome.kind === "applied") command.step ??= outcome.step;
  command.progress = null;
}
