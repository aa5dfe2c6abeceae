import { outcomeText } from "../format/command";
import { formatExact } from "../format/number";
import { stageText } from "../format/stage";
import type { TrackedCommand } from "../store/commands";
import type { SessionModel } from "../store/session";
import type { HyperparameterChange } from "../wire/types";
import { useDashboard } from "./context";

/** What became of the changes that were asked for: requested and applied values. */
export function HyperparameterOutcome(props: { model: SessionModel; ids: readonly string[] }) {
  const dashboard = useDashboard();
  const commands = props.ids.flatMap(
    (id) => dashboard.commands.get(props.model.id, id) ?? [],
  );
  if (commands.length === 0) return null;
  return (
    <div class="outcomes" role="status" data-testid="hyperparameters-outcome">
      {commands.map((command) => (
        <div key={command.id} class="outcome" data-stage={command.stage}>
          <p>
            <strong>{stageText(command)}</strong>
            {command.outcome && ` ${outcomeText(command.outcome)}`}
          </p>
          <Changes changes={changesOf(command)} />
        </div>
      ))}
    </div>
  );
}

export function changesOf({ outcome }: TrackedCommand): readonly HyperparameterChange[] {
  if (outcome?.kind !== "applied" || outcome.result?.kind !== "hyperparameters-set") return [];
  return outcome.result.changes;
}

/** Values before, as asked for, and as they became. */
export function Changes(props: { changes: readonly HyperparameterChange[] }) {
  if (props.changes.length === 0) return null;
  return (
    <ul class="changes">
      {props.changes.map(({ name, group = null, before, requested, applied }) => (
        <li key={`${group ?? ""} ${name}`}>
          <strong>{name}</strong>
          {group !== null && ` (group ${group})`}: was {formatExact(before)}, asked for{" "}
          {formatExact(requested)}, is <strong>{formatExact(applied)}</strong>
        </li>
      ))}
    </ul>
  );
}
