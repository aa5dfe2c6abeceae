import type { ComponentChildren } from "preact";
import { formatCount } from "../format/number";
import type { SessionModel } from "../store/session";
import type { SessionState } from "../wire/types";
import { useDashboard } from "./context";
import { CrossIcon } from "./icons";

/** What needs attention in this session: refusals, failures, losses. */
export function Notices(props: { model: SessionModel }) {
  const dashboard = useDashboard();
  const { model } = props;
  const { picked } = dashboard;
  const isElsewhere = picked.value !== null && picked.value !== model.id;
  return (
    <div class="notices" role="status">
      {isElsewhere && (
        <Notice onDismiss={() => dashboard.pick(null)}>
          Session <code>{picked.value}</code> is not on this server. The newest one is shown.
        </Notice>
      )}
      {dashboard.problem !== null && (
        <Notice tone="warning">
          The session could not be read anew: {dashboard.problem} Trying again.
        </Notice>
      )}
      <StateNotice state={model.state} reason={model.currentRun?.reason ?? ""} />
      {dashboard.commands.failures(model.id).map(({ id, kind, status, text }) => (
        <Notice
          key={id}
          tone={status === "refused" ? "danger" : "warning"}
          onDismiss={() => dashboard.dismiss(id)}
        >
          {status === "refused" ? `\u201c${kind}\u201d was refused: ${text}` : text}
        </Notice>
      ))}
      {model.dropped > 0 && (
        <Notice tone="warning">
          {formatCount(model.dropped)} records could not be stored and were given up. See the log.
        </Notice>
      )}
    </div>
  );
}

function StateNotice(props: { state: SessionState; reason: string }) {
  if (props.state === "lost") {
    return (
      <Notice tone="danger">
        The training process is gone without having said why: it was killed, or its machine went
        down. Everything it had recorded is here.
      </Notice>
    );
  }
  if (props.reason === "") return null;
  if (props.state === "failed") return <Notice tone="danger">Failed: {props.reason}</Notice>;
  return <Notice>{props.reason}</Notice>;
}

function Notice(props: {
  tone?: "danger" | "warning";
  onDismiss?: () => void;
  children: ComponentChildren;
}) {
  return (
    <div class="notice" data-tone={props.tone}>
      <p>{props.children}</p>
      {props.onDismiss && (
        <button type="button" class="icon-button" aria-label="Dismiss" onClick={props.onDismiss}>
          <CrossIcon />
        </button>
      )}
    </div>
  );
}
