import { useEffect } from "preact/hooks";
import { argumentsText, authorText, COMMAND_LABELS, outcomeText } from "../format/command";
import { stageText } from "../format/stage";
import { isOpen } from "../store/commands";
import type { SessionModel } from "../store/session";
import { useApp, useDashboard } from "./context";

/** As long as this it is told that a command was applied. */
const SHOWN_MS = 8000;

/** The newest command, whoever asked: on its way, received, applied. */
export function CommandStatus(props: { model: SessionModel }) {
  const { dashboard } = useApp();
  useDashboard();
  const { id: session } = props.model;
  const command = dashboard.commands.news(session);
  const id = command?.id;
  const isSettled = command !== undefined && !isOpen(command);
  useEffect(() => {
    if (id === undefined || !isSettled) return undefined;
    const timer = setTimeout(() => dashboard.dismiss(session, id), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [dashboard, session, id, isSettled]);
  const text = command && [
    COMMAND_LABELS[command.command.kind],
    argumentsText(command.command),
    command.isOwn ? "" : authorText(command.author),
  ];
  const outcome = command ? outcomeText(command.outcome) : "";
  return (
    <p
      class="command-status"
      role="status"
      data-testid="command-status"
      data-kind={command?.command.kind}
      data-stage={command?.stage}
      title={command && `${stageText(command)} ${outcome}`}
    >
      {command && text && (
        <>
          <strong>{text.filter((part) => part !== "").join(" ")}</strong> {stageText(command)}
          {outcome !== "" && `: ${outcome}`}
        </>
      )}
    </p>
  );
}
