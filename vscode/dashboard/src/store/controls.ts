import type { SessionState } from "../wire/types";
import type { CommandKind } from "./commands";

export interface ControlsInput {
  state: SessionState;
  /** Whether the page is linked to the server. */
  online: boolean;
  /** Whether the trainer is linked to the server. */
  connected: boolean;
  pending: ReadonlySet<CommandKind>;
}

/** Why a command cannot be asked for now; `null` when it can. */
export function obstacle(kind: CommandKind, input: ControlsInput): string | null {
  if (!input.online) return "This page is not connected to the server.";
  const ended = END_TEXT[input.state];
  if (ended !== undefined) return ended;
  if (!input.connected) return "The training process is not connected to this server.";
  if (input.pending.has(kind)) return `Waiting for the answer to \u201c${kind}\u201d.`;
  if (input.pending.has("stop")) return "The run is being stopped.";
  if (kind === "pause" && input.state === "paused") return "The run is paused already.";
  if (kind === "pause" && input.state === "starting") return "The run has not started yet.";
  if (kind === "resume" && input.state !== "paused") return "The run is not paused.";
  return null;
}

const END_TEXT: Partial<Record<SessionState, string>> = {
  finished: "The run has finished.",
  stopped: "The run was stopped.",
  failed: "The run has failed.",
  lost: "The training process is gone.",
};
