import { titleOf } from "../format/session";
import { careObstacle, deletionObstacle } from "../store/care";
import type { ListDialogName } from "../store/dialogs";
import type { SessionSummary } from "../wire/types";
import { useApp, useDashboard } from "./context";
import { DotsIcon } from "./icons";
import { MenuItem } from "./menu-item";
import { Popover } from "./popover";

/** What can be done with a session as a whole, whether or not anybody trains it. */
export function SessionMenu(props: {
  session: SessionSummary;
  onRename: () => void;
  /** Something else was chosen, which shows elsewhere on the page. */
  onChoose: () => void;
}) {
  const { session } = props;
  const { dialogs } = useApp();
  const dashboard = useDashboard();
  const why = careObstacle(dashboard);
  const show = (name: ListDialogName) => (): void => {
    props.onChoose();
    dialogs.listed.value = { name, session: session.id };
  };
  const verify = (): void => {
    props.onChoose();
    dashboard.jobs.ask("verify", session.id, { name });
  };
  const name = titleOf(session);
  const entries = [
    {
      testid: "rename",
      label: "Rename",
      hint: "A name for people; the id stays",
      why,
      onClick: props.onRename,
    },
    {
      testid: "export",
      label: "Export\u2026",
      hint: "One file, to take it along",
      why,
      onClick: show("export"),
    },
    {
      testid: "metrics",
      label: "Metrics\u2026",
      hint: "As CSV, JSON lines or Parquet",
      why,
      onClick: show("metrics"),
    },
    {
      testid: "verify",
      label: "Verify",
      hint: "Is every byte as it was written?",
      why,
      onClick: verify,
    },
    {
      testid: "delete",
      label: "Delete\u2026",
      hint: "With all its checkpoints",
      why: deletionObstacle(session, dashboard),
      onClick: show("delete"),
    },
  ];
  return (
    <Popover
      label={`What to do with ${name}`}
      testid="session-menu"
      buttonClass="icon-button session-menu"
      button={<DotsIcon />}
      isFixed
    >
      {(close) => (
        <div class="session-menu-items">
          {entries.map((entry) => (
            <MenuItem
              key={entry.testid}
              {...entry}
              testid={`session-${entry.testid}`}
              onClick={() => {
                close();
                entry.onClick();
              }}
            />
          ))}
        </div>
      )}
    </Popover>
  );
}
