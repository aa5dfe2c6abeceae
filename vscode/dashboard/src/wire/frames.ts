/** Text to frames and back, at the edge: past this file every message has its type. */

import type { AnyEvent, FromDashboard, ToDashboard } from "./types";

/** Tags as objects rather than lists, so that the compiler notices a missing or a wrong one. */
const FRAMES: Record<ToDashboard["frame"], true> = {
  "dashboard-welcome": true,
  refusal: true,
  batch: true,
  "session-changed": true,
  "session-gone": true,
  "command-queued": true,
  "command-progress": true,
  "command-reply": true,
  behind: true,
};

const EVENTS: Record<AnyEvent["kind"], true> = {
  "process-started": true,
  "run-started": true,
  rewound: true,
  "state-changed": true,
  "epoch-started": true,
  metrics: true,
  log: true,
  "checkpoint-saved": true,
  "checkpoint-removed": true,
  "checkpoint-failed": true,
  "evaluation-finished": true,
  "command-changed": true,
  "hyperparameters-declared": true,
  "limits-changed": true,
  "note-added": true,
  "determinism-assessed": true,
  "guard-tripped": true,
  "health-reported": true,
  "stall-noticed": true,
  "stall-ended": true,
  "records-dropped": true,
};

const reported = new Set<string>();

/** Says once per tag that a newer peer sent something this build does not know. */
function reportUnknown(what: string, tag: string): void {
  const key = `${what} ${tag}`;
  if (reported.has(key)) return;
  reported.add(key);
  console.warn(`Skipping every ${what} of the unknown kind "${tag}".`);
}

/** The frame in a text message, or `undefined` when this build does not know its kind. */
export function decodeFrame(text: string): ToDashboard | undefined {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    reportUnknown("message", "not JSON");
    return undefined;
  }
  const tag =
    typeof message === "object" && message !== null && "frame" in message ? message.frame : null;
  if (typeof tag !== "string" || !Object.hasOwn(FRAMES, tag)) {
    reportUnknown("frame", String(tag));
    return undefined;
  }
  return message as ToDashboard;
}

/** Whether this build knows the event's kind; it keeps its `seq` either way. */
export function isKnownEvent(event: { kind: string }): event is AnyEvent {
  if (Object.hasOwn(EVENTS, event.kind)) return true;
  reportUnknown("event", event.kind);
  return false;
}

/** A frame as the text of one message. */
export function encodeFrame(frame: FromDashboard): string {
  return JSON.stringify(frame);
}
