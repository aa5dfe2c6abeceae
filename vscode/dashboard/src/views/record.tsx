import { useSignal } from "@preact/signals";
import { memo } from "preact/compat";
import { argumentsText, COMMAND_LABELS, outcomeText } from "../format/command";
import { formatCount } from "../format/number";
import { STAGE_LABELS, stageText } from "../format/stage";
import { formatClock, formatDate } from "../format/time";
import type { CommandStage, TrackedCommand } from "../store/commands";
import type { SessionModel } from "../store/session";
import { useDashboard } from "./context";
import { Changes, changesOf } from "./hyperparameter-outcome";

/** Rows in the page at first, and how many more are shown at a time. */
const STEP = 200;

/** Every command of the session: who asked for what, and what became of it. */
export function Record(props: { model: SessionModel }) {
  const dashboard = useDashboard();
  const shown = useSignal(STEP);
  const commands = dashboard.commands.all(props.model.id);
  if (commands.length === 0) {
    return (
      <p class="log-none">
        Nothing was asked for yet. Every command is kept here, whoever gives it and from where.
      </p>
    );
  }
  return (
    <div class="record" tabIndex={0} role="region" aria-label="Record of commands">
      <table class="table record-table" data-testid="record">
        <thead>
          <tr>
            <th>Time</th>
            <th>Author</th>
            <th>Command</th>
            <th>Status</th>
            <th class="number">Step</th>
            <th>Outcome</th>
          </tr>
        </thead>
        <tbody>
          {commands.slice(0, shown.value).map((command) => (
            <Row
              key={command.id}
              command={command}
              stage={command.stage}
              done={command.progress?.done ?? 0}
            />
          ))}
        </tbody>
      </table>
      {commands.length > shown.value && (
        <p class="log-older">
          <button type="button" class="text-button" onClick={() => (shown.value += STEP)}>
            Show older commands
          </button>
        </p>
      )}
    </div>
  );
}

/** A command changes in place, and with its stage or its progress; else it is not rendered anew. */
const Row = memo(function Row(props: {
  command: TrackedCommand;
  stage: CommandStage;
  done: number;
}) {
  const { command, stage } = props;
  const { id, time, author, outcome, step, phase, progress } = command;
  const { kind } = command.command;
  const given = argumentsText(command.command);
  const changes = changesOf(command);
  const at = outcome?.kind === "applied" ? outcome.step : step;
  return (
    <tr data-testid="record-row" data-command={id} data-kind={kind} data-stage={stage}>
      <td class="record-time" title={formatDate(time)}>
        {formatClock(time)}
      </td>
      <td class="record-author">{author}</td>
      <td class="record-command">
        <strong>{COMMAND_LABELS[kind]}</strong> {given}
      </td>
      <td>
        <span class="stage" data-stage={stage}>
          {progress ? stageText(command) : STAGE_LABELS[stage]}
        </span>
      </td>
      <td class="number record-step" title={phase === "" ? undefined : `in the phase ${phase}`}>
        {at === null ? "" : formatCount(at)}
      </td>
      <td class="record-outcome">
        {changes.length === 0 ? outcomeText(outcome) : ownWords(outcome)}
        <Changes changes={changes} />
      </td>
    </tr>
  );
});

/** What an outcome says beside the values that are listed below it. */
function ownWords(outcome: TrackedCommand["outcome"]): string {
  if (outcome?.kind !== "applied") return "";
  const { message = "", result } = outcome;
  return message === "" && result?.kind === "hyperparameters-set" ? (result.lr_rule ?? "") : message;
}
