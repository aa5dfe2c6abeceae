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

const STATE_LABELS: Record<SessionState, string> = {
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

/** A state in words; one that may have changed since is what was last seen. */
export function stateText(state: SessionState, isOutdated: boolean): string {
  return isOutdated ? `last seen ${STATE_LABELS[state]}` : STATE_LABELS[state];
}

/** A session's state in a word; `connected` says that a trainer is there and has not begun yet. */
export function StatePill(props: { state: SessionState; connected: boolean; isOutdated: boolean }) {
  const { state, isOutdated } = props;
  const isWaiting = state === "starting" && props.connected && !isOutdated;
  return (
    <span
      class="pill"
      role="status"
      data-testid="state-pill"
      data-state={state}
      data-outdated={isOutdated}
      title={isOutdated ? "As it was last known: the server does not answer" : undefined}
    >
      <StateIcon state={state} />
      {isWaiting ? "connected" : stateText(state, isOutdated)}
    </span>
  );
}
