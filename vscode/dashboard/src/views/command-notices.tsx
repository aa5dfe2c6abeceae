import { authorText, COMMAND_LABELS, outcomeText } from "../format/command";
import { stageText } from "../format/stage";
import type { TrackedCommand } from "../store/commands";
import type { SessionModel } from "../store/session";
import { useApp, useDashboard } from "./context";
import { Notice } from "./notice";
import { useControls } from "./use-controls";

/** Long commands under way, commands that came to nothing, and results that wait to be read. */
export function CommandNotices(props: { model: SessionModel }) {
  const dashboard = useDashboard();
  const { id } = props.model;
  const { commands } = dashboard;
  return (
    <>
      {commands.running(id).map((command) => (
        <Running key={command.id} model={props.model} command={command} />
      ))}
      {commands.failures(id).map((command) => (
        <Notice
          key={command.id}
          testid="command-failure"
          tone={command.stage === "refused" ? "danger" : "warning"}
          onDismiss={() => dashboard.dismiss(id, command.id)}
        >
          {failureText(command)}
        </Notice>
      ))}
      {commands.results(id).map((command) => (
        <Result key={command.id} model={props.model} command={command} />
      ))}
    </>
  );
}

function failureText({ command, stage, outcome }: TrackedCommand): string {
  const name = `\u201c${command.kind}\u201d`;
  if (stage === "refused") return `${name} was refused: ${outcomeText(outcome)}`;
  return (
    `The connection was lost before the answer to ${name} came. ` +
    "The state shows whether it took effect once the connection is back."
  );
}

/** How far a long command is, with a way to break it off. */
function Running(props: { model: SessionModel; command: TrackedCommand }) {
  const { command } = props;
  const controls = useControls(props.model);
  const { progress } = command;
  const why = controls.why("cancel");
  const name = COMMAND_LABELS[command.command.kind];
  return (
    <Notice testid="running">
      <span class="running" data-kind={command.command.kind}>
        <strong>{name}</strong>
        <progress
          class="running-bar"
          aria-label={name}
          data-testid="command-progress"
          {...(progress && progress.total > 0 ? { value: progress.done, max: progress.total } : {})}
        />
        <span class="running-text">
          {stageText(command)}
          {!command.isOwn && `, ${authorText(command.author)}`}
        </span>
        <button
          type="button"
          class="text-button"
          data-testid="cancel"
          disabled={why !== null}
          title={why ?? `Break \u201c${command.command.kind}\u201d off`}
          onClick={() => controls.ask({ kind: "cancel", command: command.id })}
        >
          {controls.pending.has("cancel") ? "Cancelling\u2026" : "Cancel"}
        </button>
      </span>
    </Notice>
  );
}

/** What should not be overlooked: whether a proof held, and what a rewind could not restore. */
function Result(props: { model: SessionModel; command: TrackedCommand }) {
  const dashboard = useDashboard();
  const { dialogs } = useApp();
  const { command } = props;
  const outcome = command.outcome;
  const result = outcome?.kind === "applied" ? outcome.result : null;
  const isFine = result?.kind === "proof" && result.exact;
  const dismiss = { onDismiss: () => dashboard.dismiss(props.model.id, command.id) };
  return (
    <Notice testid={result?.kind ?? "result"} {...dismiss} {...(isFine ? {} : { tone: "warning" })}>
      <strong>{COMMAND_LABELS[command.command.kind]}</strong> {stageText(command)}:{" "}
      {outcomeText(outcome)}
      {result?.kind === "proof" && !result.exact && (
        <ProofDifference step={result.step ?? null} difference={result.difference ?? ""} hint={result.hint ?? ""} />
      )}
      {result?.kind === "health-checked" && (
        <button
          type="button"
          class="text-button"
          data-testid="show-health"
          onClick={() => dialogs.show("health")}
        >
          Show all findings
        </button>
      )}
      {result?.kind === "rewinding" && <Findings findings={result.findings ?? []} />}
    </Notice>
  );
}

function ProofDifference(props: { step: number | null; difference: string; hint: string }) {
  const where = props.step === null ? "" : `First difference at step ${props.step}: `;
  return (
    <ul class="findings">
      {props.difference !== "" && <li>{where + props.difference}</li>}
      {props.hint !== "" && <li>{props.hint}</li>}
    </ul>
  );
}

export function Findings(props: { findings: readonly string[] }) {
  if (props.findings.length === 0) return null;
  return (
    <ul class="findings">
      {props.findings.map((finding) => (
        <li key={finding}>{finding}</li>
      ))}
    </ul>
  );
}
