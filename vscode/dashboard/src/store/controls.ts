import type { SessionState } from "../wire/types";
import { isLong, type CommandKind } from "./commands";

export interface ControlsInput {
  state: SessionState;
  /** Whether the page is linked to the server. */
  online: boolean;
  /** Whether the trainer is linked to the server. */
  connected: boolean;
  /** Commands of this page that are on their way. */
  pending: ReadonlySet<CommandKind>;
  /** The long command that is being executed, whoever asked for it. */
  running?: CommandKind | null;
}

/** Why nothing at all can be asked for now; `null` when something can. */
export function blockade(input: ControlsInput): string | null {
  if (!input.online) return "This page is not connected to the server.";
  const ended = END_TEXT[input.state];
  if (ended !== undefined) return ended;
  if (!input.connected) return "The training process is not connected to this server.";
  return null;
}

/** Why a command cannot be asked for now; `null` when it can. */
export function obstacle(kind: CommandKind, input: ControlsInput): string | null {
  const blocked = blockade(input);
  if (blocked !== null) return blocked;
  if (input.pending.has(kind)) return `Waiting for the answer to \u201c${kind}\u201d.`;
  if (kind === "cancel") return null;
  if (input.pending.has("stop")) return "The run is being stopped.";
  if (kind === "pause" && input.state === "paused") return "The run is paused already.";
  if (input.state === "starting" && !BEFORE_START.has(kind)) return "The run has not started yet.";
  if (kind === "resume" && input.state !== "paused") return "The run is not paused.";
  if (isLong(kind) && input.running) {
    return `\u201c${input.running}\u201d is under way; wait for its end, or cancel it.`;
  }
  return null;
}

/** What makes sense before the first step, beside `resume`, whose reason is a better one. */
const BEFORE_START: ReadonlySet<CommandKind> = new Set<CommandKind>(["stop", "note", "resume"]);

const END_TEXT: Partial<Record<SessionState, string>> = {
  finished: "The run has finished.",
  stopped: "The run was stopped.",
  failed: "The run has failed.",
  lost: "The training process is gone.",
};
