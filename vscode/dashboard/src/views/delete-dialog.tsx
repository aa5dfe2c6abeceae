import { plural } from "../format/job";
import { formatBytes } from "../format/number";
import { titleOf } from "../format/session";
import { deletionObstacle } from "../store/care";
import type { SessionSummary } from "../wire/types";
import { useDashboard } from "./context";
import { Dialog, DialogForm } from "./dialog";
import { useDetails } from "./use-details";

/** Asks before a session is deleted, and says what goes. */
export function DeleteDialog(props: { session: SessionSummary; onClose: () => void }) {
  const { session, onClose } = props;
  const dashboard = useDashboard();
  const details = useDetails(session.id);
  const name = titleOf(session);
  return (
    <Dialog title={`Delete ${name}?`} testid="delete-dialog" onClose={onClose}>
      <p>
        The session <code>{session.id}</code> goes with everything in it; this cannot be taken back.
      </p>
      <p class="dialog-amount" data-testid="delete-size">
        {details === null && "Looking at what it takes\u2026"}
        {typeof details === "string" && details}
        {details !== null && typeof details === "object" && (
          <>
            <strong>{formatBytes(details.size.total ?? 0)}</strong> on disk:{" "}
            {plural(details.runs.length, "run")}, {plural(details.checkpoints.length, "checkpoint")}.
          </>
        )}
      </p>
      <DialogForm
        submit="Delete the session"
        testid="delete"
        isDangerous
        dismiss="Keep it"
        why={deletionObstacle(session, dashboard)}
        onCancel={onClose}
        onSubmit={() => {
          dashboard.jobs.ask("delete", session.id, { name });
          onClose();
          return null;
        }}
      />
    </Dialog>
  );
}
