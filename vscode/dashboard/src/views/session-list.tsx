import { useEffect, useState } from "preact/hooks";
import { formatAgo, formatDate } from "../format/time";
import { formatCount } from "../format/number";
import type { SessionSummary } from "../wire/types";
import { useApp, useDashboard } from "./context";
import { STATE_LABELS, StateIcon } from "./state-pill";

/** All sessions, to choose one from; a drawer on narrow pages. */
export function SessionListView(props: { isOpen: boolean; onClose: () => void }) {
  const { dashboard } = useApp();
  const sessions = dashboard.sessions.value;
  const now = useNow();
  useEscape(props.isOpen, props.onClose);
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
          {dashboard.picked.value !== null && (
            <button type="button" class="text-button" onClick={() => pick(null)}>
              Follow newest
            </button>
          )}
        </div>
        <ul class="session-items">
          {sessions.map((session) => (
            <SessionItem key={session.id} session={session} now={now} onPick={pick} />
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
}) {
  const { session } = props;
  const dashboard = useDashboard();
  const isSelected = dashboard.selected === session.id;
  const model = isSelected ? dashboard.model : null;
  const state = model?.state ?? session.state;
  const step = model?.currentRun?.step ?? Math.max(0, ...session.runs.map((run) => run.step));
  return (
    <li>
      <button
        type="button"
        class="session-item"
        data-testid="session-item"
        data-session={session.id}
        data-state={state}
        aria-current={isSelected}
        title={`Session ${session.id}, begun ${formatDate(session.created)}`}
        onClick={() => props.onPick(session.id)}
      >
        <StateIcon state={state} />
        <span class="session-name">{session.project}</span>
        <span class="session-ago">{formatAgo(session.created, props.now)}</span>
        <span class="session-more">
          {STATE_LABELS[state]} &middot; step {formatCount(step)}
        </span>
      </button>
    </li>
  );
}

/** The present time in seconds, as often as "5 min ago" needs it. */
function useNow(): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now() / 1000), 15_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

function useEscape(isActive: boolean, onEscape: () => void): void {
  useEffect(() => {
    if (!isActive) return undefined;
    const listen = (event: KeyboardEvent): void => {
      if (event.key === "Escape") onEscape();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [isActive, onEscape]);
}
