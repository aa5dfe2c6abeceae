import { useApp, useDashboard } from "./context";
import { DeleteDialog } from "./delete-dialog";
import { ExportDialog } from "./export-dialog";
import { MetricsDialog } from "./metrics-dialog";

/** The dialog that is open about a session of the list, for as long as that is there. */
export function ListDialogs() {
  const { dialogs } = useApp();
  const dashboard = useDashboard();
  const open = dialogs.listed.value;
  const session = dashboard.sessions.value.find(({ id }) => id === open?.session);
  if (!open || !session) return null;
  const common = { session, onClose: () => (dialogs.listed.value = null) };
  switch (open.name) {
    case "export":
      return <ExportDialog key={session.id} {...common} />;
    case "metrics":
      return <MetricsDialog key={session.id} {...common} />;
    case "delete":
      return <DeleteDialog key={session.id} {...common} />;
  }
}
