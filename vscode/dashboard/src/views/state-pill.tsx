import type { ComponentType } from "preact";
import type { SessionState } from "../wire/types";
import {
  CheckIcon,
  CrossIcon,
  DotIcon,
  PauseIcon,
  QuestionIcon,
  RingIcon,
  StopIcon,
} from "./icons";

export const STATE_LABELS: Record<SessionState, string> = {
  starting: "starting",
  running: "running",
  paused: "paused",
  finished: "finished",
  stopped: "stopped",
  failed: "failed",
  lost: "lost",
};

/** A shape for each state, so that none is told by its colour alone. */
const STATE_ICONS: Record<SessionState, ComponentType> = {
  starting: RingIcon,
  running: DotIcon,
  paused: PauseIcon,
  finished: CheckIcon,
  stopped: StopIcon,
  failed: CrossIcon,
  lost: QuestionIcon,
};

export function StateIcon(props: { state: SessionState }) {
  const Shape = STATE_ICONS[props.state];
  return (
    <span class="state-icon" data-state={props.state}>
      <Shape />
    </span>
  );
}

/** A session's state in a word; `connected` says that a trainer is there and has not begun yet. */
export function StatePill(props: { state: SessionState; connected: boolean }) {
  const isWaiting = props.state === "starting" && props.connected;
  return (
    <span class="pill" role="status" data-testid="state-pill" data-state={props.state}>
      <StateIcon state={props.state} />
      {isWaiting ? "connected" : STATE_LABELS[props.state]}
    </span>
  );
}
