import type { SessionSummary } from "../wire/types";

/** Every session the server knows. */
export class SessionList {
  readonly #byId = new Map<string, SessionSummary>();

  replace(sessions: readonly SessionSummary[]): void {
    this.#byId.clear();
    for (const session of sessions) this.#byId.set(session.id, session);
  }

  change(session: SessionSummary): void {
    this.#byId.set(session.id, session);
  }

  remove(id: string): void {
    this.#byId.delete(id);
  }

  get(id: string): SessionSummary | undefined {
    return this.#byId.get(id);
  }

  /** The newest first. */
  sorted(): SessionSummary[] {
    return [...this.#byId.values()].sort(
      (a, b) => b.created - a.created || b.id.localeCompare(a.id),
    );
  }
}
