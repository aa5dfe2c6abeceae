import type {
  Command,
  CommandChanged,
  CommandReply,
  CommandSubmission,
  Outcome,
} from "../wire/types";

export type CommandKind = Command["kind"];

/** A command that this page asked for. */
export interface TrackedCommand {
  id: string;
  session: string;
  kind: CommandKind;
  /** `sent`: on its way. `unconfirmed`: the connection was lost before the answer came. */
  status: "sent" | "applied" | "refused" | "unconfirmed";
  /** What the answer said. */
  text: string;
}

/** The commands that this page asked for, until they are answered and the answer is read. */
export class CommandTracker {
  readonly #commands = new Map<string, TrackedCommand>();

  /** The frame that asks for a command; the command counts as sent from now on. */
  submit(id: string, session: string, kind: CommandKind): CommandSubmission {
    for (const [known, command] of this.#commands) {
      if (command.session === session && command.status !== "sent") this.#commands.delete(known);
    }
    this.#commands.set(id, { id, session, kind, status: "sent", text: "" });
    return { frame: "command-submission", id, session, command: { kind } };
  }

  reply(reply: CommandReply): void {
    this.#answer(reply.id, reply.outcome);
  }

  /** The session's record of a command: it answers what a lost connection left open. */
  changed(event: CommandChanged): void {
    if (event.outcome) this.#answer(event.id, event.outcome);
  }

  /** The connection was lost: no reply comes any more, only the session's record. */
  connectionLost(): void {
    for (const command of this.#commands.values()) {
      if (command.status !== "sent") continue;
      command.status = "unconfirmed";
      command.text =
        `The connection was lost before the answer to \u201c${command.kind}\u201d came. ` +
        "The state shows whether it took effect once the connection is back.";
    }
  }

  dismiss(id: string): void {
    this.#commands.delete(id);
  }

  /** The kinds of a session's commands that are on their way. */
  pending(session: string): Set<CommandKind> {
    const sent = this.#of(session).filter((command) => command.status === "sent");
    return new Set(sent.map((command) => command.kind));
  }

  /** A session's commands that came to nothing, or of which nothing is known. */
  failures(session: string): TrackedCommand[] {
    return this.#of(session).filter(
      (command) => command.status === "refused" || command.status === "unconfirmed",
    );
  }

  #of(session: string): TrackedCommand[] {
    return [...this.#commands.values()].filter((command) => command.session === session);
  }

  #answer(id: string, outcome: Outcome): void {
    const command = this.#commands.get(id);
    if (!command) return;
    command.status = outcome.kind;
    command.text = outcome.kind === "refused" ? outcome.reason : (outcome.message ?? "");
  }
}
