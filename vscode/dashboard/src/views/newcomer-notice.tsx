import { runsText } from "../format/runs";
import { useDashboard } from "./context";
import { Notice } from "./notice";

/** That a new session has come while another one is looked at, and the way to it. */
export function NewcomerNotice() {
  const dashboard = useDashboard();
  const { newcomer } = dashboard;
  if (!newcomer) return null;
  const runs = runsText(newcomer.runs.map((run) => run.name));
  return (
    <Notice testid="newcomer" onDismiss={() => dashboard.dismissNewcomer()}>
      New session: <strong>{newcomer.project}</strong>
      {runs !== "" && ` \u00b7 ${runs}`}{" "}
      <button
        type="button"
        class="text-button"
        data-testid="show-newcomer"
        onClick={() => dashboard.pick(null)}
      >
        Show it
      </button>
    </Notice>
  );
}
