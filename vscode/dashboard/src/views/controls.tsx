import { useRef } from "preact/hooks";
import type { CommandKind } from "../store/commands";
import { obstacle } from "../store/controls";
import type { SessionModel } from "../store/session";
import { useDashboard } from "./context";
import { PauseIcon, ResumeIcon, StopIcon } from "./icons";
import { StopDialog } from "./stop-dialog";

const BUTTONS = [
  { kind: "pause", label: "Pause", pendingLabel: "Pausing\u2026", Icon: PauseIcon },
  { kind: "resume", label: "Resume", pendingLabel: "Resuming\u2026", Icon: ResumeIcon },
  { kind: "stop", label: "Stop", pendingLabel: "Stopping\u2026", Icon: StopIcon },
] as const;

/** Pause, resume and stop; what cannot be asked for says why. */
export function Controls(props: { model: SessionModel }) {
  const dashboard = useDashboard();
  const dialog = useRef<HTMLDialogElement>(null);
  const { model } = props;
  const pending = dashboard.commands.pending(model.id);
  const input = {
    state: model.state,
    online: dashboard.connection.value.kind === "open",
    connected: model.connected,
    pending,
  };
  const ask = (kind: CommandKind): void => {
    if (kind === "stop") dialog.current?.showModal();
    else dashboard.submit(model.id, kind);
  };
  return (
    <div class="controls" role="group" aria-label="Run controls">
      {BUTTONS.map(({ kind, label, pendingLabel, Icon }) => {
        const why = obstacle(kind, input);
        const isPending = pending.has(kind);
        return (
          <button
            key={kind}
            type="button"
            class={`control control-${kind}`}
            data-testid={kind}
            data-pending={isPending}
            disabled={why !== null}
            title={why ?? TITLES[kind]}
            onClick={() => ask(kind)}
          >
            <Icon />
            {isPending ? pendingLabel : label}
          </button>
        );
      })}
      <StopDialog dialog={dialog} onConfirm={() => dashboard.submit(model.id, "stop")} />
    </div>
  );
}

const TITLES: Record<CommandKind, string> = {
  pause: "Hold training before its next step",
  resume: "Let training go on",
  stop: "End training before its next step",
};
