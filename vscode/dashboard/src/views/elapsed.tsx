import { formatDate, formatSpan } from "../format/time";
import { isFinal, type Run } from "../store/run";
import type { SessionModel } from "../store/session";
import { useDashboard } from "./context";
import { useNow } from "./use-now";

/** Since the run began: until now while it is live, else until the last that is known of it. */
export function Elapsed(props: { model: SessionModel; run: Run }) {
  const dashboard = useDashboard();
  const { model, run } = props;
  const isLive = !isFinal(model.state) && dashboard.connection.value.kind === "open";
  const now = useNow(isLive ? 1 : null);
  // The clocks of two machines may differ: what was recorded has happened.
  const until = isLive ? Math.max(now, run.updated) : run.updated;
  const end = isLive ? "" : " until the last event recorded";
  return (
    <div
      class="fact"
      title={`Since \u201c${run.name}\u201d began, ${formatDate(run.created)},${end} with its pauses`}
    >
      <dt>Elapsed</dt>
      <dd data-testid="elapsed">{formatSpan(until - run.created)}</dd>
    </div>
  );
}
