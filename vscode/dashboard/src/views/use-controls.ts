import { blockade, obstacle } from "../store/controls";
import type { CommandKind } from "../store/commands";
import type { SessionModel } from "../store/session";
import type { Command } from "../wire/types";
import { useDashboard } from "./context";

export interface Controlling {
  /** Why nothing can be asked for; `null` when something can. */
  blocked: string | null;
  pending: ReadonlySet<CommandKind>;
  /** Why a command cannot be asked for; `null` when it can. */
  why(kind: CommandKind): string | null;
  /** Ask for a command; returns its id. */
  ask(command: Command): string;
}

/** What can be asked of a session's training process just now. */
export function useControls(model: SessionModel): Controlling {
  const dashboard = useDashboard();
  const pending = dashboard.commands.pending(model.id);
  const [running] = dashboard.commands.running(model.id);
  const input = {
    state: model.state,
    online: dashboard.connection.value.kind === "open",
    connected: model.connected,
    pending,
    running: running?.command.kind ?? null,
  };
  return {
    blocked: blockade(input),
    pending,
    why: (kind) => obstacle(kind, input),
    ask: (command) => dashboard.submit(model.id, command),
  };
}
