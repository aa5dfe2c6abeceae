import type { Connection, Dashboard } from "../store/dashboard";
import { isFinal } from "../store/run";
import type { SessionModel } from "../store/session";
import { useApp, useDashboard } from "./context";

/** A word on how the page stands with the server, always in sight. */
export function ConnectionStatus() {
  const { connection } = useApp().dashboard;
  const { kind } = connection.value;
  return (
    <span class="connection" data-testid="connection" data-state={kind}>
      <span class="connection-dot" aria-hidden="true" />
      {labelOf(connection.value)}
    </span>
  );
}

function labelOf(connection: Connection): string {
  switch (connection.kind) {
    case "connecting":
      return "Connecting";
    case "open":
      return "Live";
    case "closed":
      return connection.reason === "unauthorized" ? "No access" : "No server";
    case "refused":
      return "Refused";
  }
}

/** What is wrong with the connection, above what is known from before; nothing when all is well. */
export function ConnectionBanner() {
  const dashboard = useDashboard();
  const text = dashboard.isWelcomed ? connectionProblem(dashboard) : null;
  return (
    <div class="banner-slot" role="alert">
      {text !== null && <p class="banner">{text}</p>}
    </div>
  );
}

/** What is wrong with the connection and what to do about it. */
export function connectionProblem(dashboard: Dashboard): string | null {
  const connection = dashboard.connection.value;
  if (connection.kind === "refused") return `${connection.reason} ${connection.remedy}`;
  if (connection.kind === "closed" && connection.reason === "unauthorized") {
    return (
      "The server does not know this page. Open the link that \u201cotf serve\u201d printed; " +
      "it carries the token."
    );
  }
  if (connection.kind === "closed" && !dashboard.isWelcomed) {
    return "The server does not answer. This page goes on trying; is \u201cotf serve\u201d running?";
  }
  if (connection.kind === "closed") return lossText(dashboard.model);
  if (dashboard.foreignProtocol !== null) {
    return (
      `The server speaks protocol ${dashboard.foreignProtocol}, which this page does not. ` +
      "Reload the page to get the one that belongs to the server."
    );
  }
  return null;
}

/** That the server is gone, and what that means for the session shown, as far as it is known. */
function lossText(model: SessionModel | null): string {
  if (!model) return "The connection to the server is lost. This page goes on trying to reach it.";
  if (isFinal(model.state)) {
    return (
      "The server is gone. This session has ended, and everything is recorded; to see it again, " +
      "run \u201cotf serve\u201d in a terminal."
    );
  }
  if (model.state === "paused") {
    return (
      "The connection to the server is lost; reconnecting. The run was paused when it was last " +
      "seen. It needs no server, and what happens meanwhile is recorded."
    );
  }
  return (
    "The connection to the server is lost; reconnecting. Training goes on without it, and what " +
    "happens meanwhile is recorded and will be shown."
  );
}
