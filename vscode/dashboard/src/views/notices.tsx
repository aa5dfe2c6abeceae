import { formatCount } from "../format/number";
import { isFinal } from "../store/run";
import type { SessionModel } from "../store/session";
import type { SessionState } from "../wire/types";
import { CheckpointFailures } from "./checkpoint-failures";
import { CommandNotices } from "./command-notices";
import { useDashboard } from "./context";
import { GuardNotices } from "./guard-notices";
import { NewcomerNotice } from "./newcomer-notice";
import { Notice } from "./notice";
import { StallBanner } from "./stall-banner";

/** What needs attention in this session: refusals, failures, losses. */
export function Notices(props: { model: SessionModel }) {
  const dashboard = useDashboard();
  const { model } = props;
  const { picked } = dashboard;
  const isElsewhere = picked.value !== null && picked.value !== model.id;
  return (
    <div class="notices" role="status">
      <NewcomerNotice />
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
      {model.stall && !isFinal(model.state) && <StallBanner stall={model.stall} />}
      <CommandNotices model={model} />
      <GuardNotices model={model} />
      <CheckpointFailures model={model} />
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
  if (props.reason === "" || isBrief(props.state, props.reason)) return null;
  if (props.state === "failed") return <Notice tone="danger">Failed: {props.reason}</Notice>;
  return <Notice>{props.reason}</Notice>;
}

const BRIEF = 48;

/** Whether a reason is short and harmless enough to stand beside the state. */
export function isBrief(state: SessionState, reason: string): boolean {
  return reason !== "" && reason.length <= BRIEF && state !== "failed" && state !== "lost";
}
