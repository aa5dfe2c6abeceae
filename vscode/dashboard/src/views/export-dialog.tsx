import { useSignal } from "@preact/signals";
import { formatBytes } from "../format/number";
import { plural } from "../format/job";
import { titleOf } from "../format/session";
import { bundleSize, chosenCheckpoints, exportQuery, type CheckpointChoice } from "../store/export";
import type { SessionSummary } from "../wire/types";
import { useDashboard } from "./context";
import { FileJobDialog } from "./file-job";
import { useDetails } from "./use-details";

const CHOICES: { choice: CheckpointChoice; label: string; hint: string }[] = [
  { choice: "all", label: "All", hint: "Training can be taken up from any of them." },
  { choice: "latest", label: "The newest of each run", hint: "Enough to go on." },
  { choice: "pinned", label: "Pinned ones", hint: "Initial, best, final, and those with a name." },
  { choice: "none", label: "None", hint: "The record alone: metrics, log, interventions." },
];

/** A session as one file, to take it along. */
export function ExportDialog(props: { session: SessionSummary; onClose: () => void }) {
  const { session, onClose } = props;
  const dashboard = useDashboard();
  const details = useDetails(session.id);
  const choice = useSignal<CheckpointChoice>("all");
  const withModels = useSignal(false);
  const leftOut = useSignal<ReadonlySet<string>>(new Set());
  const name = titleOf(session);
  const runs = session.runs.map((run) => run.name);
  const chosen = runs.filter((run) => !leftOut.value.has(run));
  const known = typeof details === "object" ? details : null;
  const toggle = (run: string): void => {
    const next = new Set(leftOut.value);
    if (!next.delete(run)) next.add(run);
    // None chosen would mean all.
    if (next.size < runs.length) leftOut.value = next;
  };
  return (
    <FileJobDialog
      title={`Export ${name}`}
      testid="export-dialog"
      submit="Export"
      onClose={onClose}
      onSubmit={() => {
        const query = exportQuery(runs, chosen, choice.value, withModels.value);
        return dashboard.jobs.ask("export", session.id, { name, query });
      }}
    >
      <p>
        One file, <code>.otf.zip</code>, which OnTheFly imports anywhere and any tool opens.
      </p>
      {runs.length > 1 && (
        <fieldset class="choices">
          <legend class="field-label">Runs</legend>
          <div class="choice-runs">
            {runs.map((run) => (
              <label key={run} class="check">
                <input
                  type="checkbox"
                  data-testid="export-run"
                  data-run={run}
                  checked={!leftOut.value.has(run)}
                  onChange={(event) => {
                    toggle(run);
                    event.currentTarget.checked = !leftOut.value.has(run);
                  }}
                />
                {run}
              </label>
            ))}
          </div>
          {chosen.length < runs.length && (
            <p class="field-hint">The runs that these grew from come along.</p>
          )}
        </fieldset>
      )}
      <fieldset class="choices">
        <legend class="field-label">Checkpoints</legend>
        {CHOICES.map((one) => (
          <label key={one.choice} class="choice">
            <input
              type="radio"
              name="checkpoints"
              data-testid={`export-${one.choice}`}
              checked={choice.value === one.choice}
              onChange={() => (choice.value = one.choice)}
            />
            <span>
              <strong>{one.label}</strong>
              <span class="choice-hint">
                {known && `${sizeOf(chosenCheckpoints(known, chosen, one.choice))} `}
                {one.hint}
              </span>
            </span>
          </label>
        ))}
      </fieldset>
      <label class="check">
        <input
          type="checkbox"
          data-testid="export-models"
          checked={withModels.value}
          onChange={(event) => (withModels.value = event.currentTarget.checked)}
        />
        <span>
          Also final models
          <span class="choice-hint">The weights alone of final and best checkpoints.</span>
        </span>
      </label>
      <p class="field-hint" data-testid="export-size">
        {typeof details === "string" && details}
        {known &&
          `Up to about ${formatBytes(bundleSize(known, chosen, choice.value))}${withModels.value ? ", and the models" : ""}.`}
      </p>
    </FileJobDialog>
  );
}

function sizeOf(checkpoints: readonly { size: number }[]): string {
  if (checkpoints.length === 0) return "";
  const bytes = checkpoints.reduce((sum, { size }) => sum + size, 0);
  return `${plural(checkpoints.length, "checkpoint")}, ${formatBytes(bytes)}.`;
}
