import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { formatAgo, formatDate } from "../format/time";
import { formatCount } from "../format/number";
import { runsText } from "../format/runs";
import { titleOf } from "../format/session";
import type { SessionSummary } from "../wire/types";
import { useDashboard } from "./context";
import { ImportIcon } from "./icons";
import { ImportButton } from "./import-button";
import { RenameForm } from "./rename-form";
import { SessionMenu } from "./session-menu";
import { StateIcon, stateText } from "./state-pill";
import { useNow } from "./use-now";

/** All sessions, to choose one from; a drawer on narrow pages. */
export function SessionListView(props: { isOpen: boolean; onClose: () => void }) {
  const dashboard = useDashboard();
  const sessions = dashboard.sessions.value;
  const now = useNow(15);
  useEscape(props.isOpen, props.onClose);
  const isOlder = dashboard.selected !== sessions[0]?.id;
  const pick = (id: string | null): void => {
    dashboard.pick(id);
    props.onClose();
  };
  return (
    <>
      {props.isOpen && <div class="scrim" onClick={props.onClose} />}
      <nav id="sessions" class="sessions" data-open={props.isOpen} aria-label="Sessions">
        <div class="sessions-head">
          <h2>Sessions</h2>
          <ImportButton
            class="text-button"
            testid="import"
            label="Import a bundle"
            onChosen={props.onClose}
          >
            <ImportIcon />
            Import
          </ImportButton>
          {!dashboard.isFollowingNewest && (dashboard.picked.value !== null || isOlder) && (
            <button type="button" class="text-button" onClick={() => pick(null)}>
              Follow newest
            </button>
          )}
        </div>
        <ul class="session-items">
          {sessions.map((session) => (
            <SessionItem
              key={session.id}
              session={session}
              now={now}
              onPick={pick}
              onChoose={props.onClose}
            />
          ))}
        </ul>
        {sessions.length === 0 && dashboard.isWelcomed && (
          <p class="sessions-none">None yet.</p>
        )}
      </nav>
    </>
  );
}

function SessionItem(props: {
  session: SessionSummary;
  now: number;
  onPick: (id: string) => void;
  /** Something was asked for that shows elsewhere. */
  onChoose: () => void;
}) {
  const { session } = props;
  const dashboard = useDashboard();
  const isSelected = dashboard.selected === session.id;
  const model = isSelected ? dashboard.model : null;
  const state = model?.state ?? session.state;
  const isOutdated = dashboard.isOutdated(state);
  const runs = model?.runNames ?? session.runs.map((run) => run.name);
  const step = model?.currentRun?.step ?? Math.max(0, ...session.runs.map((run) => run.step));
  const isRenaming = useSignal(false);
  const button = useRef<HTMLButtonElement>(null);
  const endRenaming = (): void => {
    isRenaming.value = false;
    // The form had the focus, and is gone.
    requestAnimationFrame(() => button.current?.focus());
  };
  if (isRenaming.value) {
    return (
      <li>
        <RenameForm session={session} onClose={endRenaming} />
      </li>
    );
  }
  const name = session.name ?? "";
  return (
    <li class="session-row">
      <button
        ref={button}
        type="button"
        class="session-item"
        data-testid="session-item"
        data-session={session.id}
        data-state={state}
        data-outdated={isOutdated}
        aria-current={isSelected}
        title={[
          ...(name === "" ? [] : [name]),
          `${session.project}: ${runs.join(", ")}`,
          `Session ${session.id}, begun ${formatDate(session.created)}`,
        ].join("\n")}
        onClick={() => props.onPick(session.id)}
      >
        <StateIcon state={state} />
        <span class="session-names">
          <span class="session-name" data-testid="session-name">
            {titleOf(session)}
          </span>
          {name === "" && <span class="session-runs">{runsText(runs)}</span>}
        </span>
        {name !== "" && (
          <span class="session-more">
            {session.project} &middot; {runsText(runs)}
          </span>
        )}
        <span class="session-more">
          {stateText(state, isOutdated)} &middot; step {formatCount(step)}
        </span>
        <span class="session-more">started {formatAgo(session.created, props.now)}</span>
      </button>
      <SessionMenu
        session={session}
        onRename={() => (isRenaming.value = true)}
        onChoose={props.onChoose}
      />
    </li>
  );
}

function useEscape(isActive: boolean, onEscape: () => void): void {
  useEffect(() => {
    if (!isActive) return undefined;
    const listen = (event: KeyboardEvent): void => {
      // A dialog that lies over it goes first.
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) onEscape();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [isActive, onEscape]);
}
