import type { SessionState, SessionSummary } from "../wire/types";
import type { Connection } from "./dashboard";
import type { JobList } from "./jobs";

/** What decides on what can be done with a session as a whole. */
export interface Surroundings {
  readonly connection: { readonly value: Connection };
  readonly jobs: Pick<JobList, "isBusy">;
}

const LIVE: readonly SessionState[] = ["starting", "running", "paused"];

/** Why nothing can be done with a session now; `null` when something can. */
export function careObstacle({ connection }: Surroundings): string | null {
  return connection.value.kind === "open" ? null : "There is no connection to the server.";
}

/** Why a session cannot be deleted now; `null` when it can. */
export function deletionObstacle(
  session: Pick<SessionSummary, "id" | "state">,
  around: Surroundings,
): string | null {
  if (LIVE.includes(session.state)) return "It is being trained. Stop it first.";
  if (around.jobs.isBusy(session.id)) return "Something is being done with it. Wait for that.";
  return careObstacle(around);
}
