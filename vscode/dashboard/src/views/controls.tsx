import type { CommandKind } from "../store/commands";
import { isLingering, type SessionModel } from "../store/session";
import type { Command } from "../wire/types";
import { useApp } from "./context";
import { ChevronIcon, PauseIcon, ResumeIcon, RunForIcon, StopIcon } from "./icons";
import { MenuItem } from "./menu-item";
import { MoreMenu } from "./more-menu";
import { Popover } from "./popover";
import { SessionDialogs } from "./session-dialogs";
import { useControls, type Controlling } from "./use-controls";

const BUTTONS = {
  pause: { label: "Pause", pending: "Pausing\u2026", title: "Hold training before its next step", Icon: PauseIcon },
  resume: { label: "Resume", pending: "Resuming\u2026", title: "Let training go on", Icon: ResumeIcon },
  "run-for": { label: "Run for\u2026", pending: "Asking\u2026", title: "Train some steps or epochs, then pause", Icon: RunForIcon },
  stop: { label: "Stop", pending: "Stopping\u2026", title: "End training before its next step", Icon: StopIcon },
} as const;

/** Everything that can be asked of the training process; what cannot says why. */
export function Controls(props: { model: SessionModel }) {
  const { model } = props;
  const { dialogs } = useApp();
  const controls = useControls(model);
  return (
    <div class="controls" role="group" aria-label="Run controls" data-state={model.state}>
      <span class="split">
        <Control kind="pause" controls={controls} onClick={() => controls.ask({ kind: "pause" })} />
        <PauseMenu model={model} controls={controls} />
      </span>
      <Control kind="resume" controls={controls} onClick={() => controls.ask({ kind: "resume" })} />
      <Control kind="run-for" controls={controls} onClick={() => dialogs.show("run-for")} />
      <Control
        kind="stop"
        controls={controls}
        {...(isLingering(model) ? { title: "Let the script go on after the training loop" } : {})}
        onClick={() => dialogs.show("stop")}
      />
      <MoreMenu controls={controls} />
      <SessionDialogs model={model} />
    </div>
  );
}

function Control(props: {
  kind: keyof typeof BUTTONS;
  controls: Controlling;
  /** Instead of what is said of it otherwise. */
  title?: string;
  onClick: () => void;
}) {
  const { kind, controls } = props;
  const { label, pending, title, Icon } = BUTTONS[kind];
  const why = controls.why(kind);
  const isPending = controls.pending.has(kind);
  return (
    <button
      type="button"
      class={`control control-${kind}`}
      data-testid={kind}
      data-pending={isPending}
      disabled={why !== null}
      title={why ?? props.title ?? title}
      onClick={props.onClick}
    >
      <Icon />
      {isPending ? pending : label}
    </button>
  );
}

function PauseMenu(props: { model: SessionModel; controls: Controlling }) {
  const { controls } = props;
  const isPaused = props.model.state === "paused";
  const kind: CommandKind = "pause";
  const release: Command = { kind, release: true };
  // A run that is paused can still give its memory back.
  const why = isPaused ? controls.blocked : controls.why(kind);
  return (
    <Popover
      label="Ways to pause"
      testid="pause-menu"
      buttonClass="control control-menu"
      title="Ways to pause"
      button={<ChevronIcon />}
    >
      {(close) => (
        <MenuItem
          testid="pause-release"
          label={isPaused ? "Release device memory" : "Pause and release device memory"}
          hint="Model and optimizer move to host memory; resuming moves them back, bit for bit."
          why={why}
          onClick={() => {
            close();
            controls.ask(release);
          }}
        />
      )}
    </Popover>
  );
}
