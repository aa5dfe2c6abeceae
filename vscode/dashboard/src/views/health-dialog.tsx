import { useSignal } from "@preact/signals";
import { formatCount } from "../format/number";
import { formatDate } from "../format/time";
import { CHECKS, ranked, type RankedFinding } from "../store/health";
import { wasRewound } from "../store/rewinds";
import type { SessionModel } from "../store/session";
import type { HealthReported } from "../wire/types";
import { useDashboard } from "./context";
import { Dialog } from "./dialog";
import { useControls } from "./use-controls";

/** What the newest checks of the run found, ranked, and a way to make them. */
export function HealthDialog(props: { model: SessionModel; onClose: () => void }) {
  useDashboard();
  const { model, onClose } = props;
  const reports = model.health.of(model.currentRun?.name ?? "");
  return (
    <Dialog title="Health" testid="health-dialog" isWide onClose={onClose}>
      <p>
        Some steps are trained on trial, looked at, and taken back. Afterwards the run is as it was.
      </p>
      <CheckForm model={model} />
      <FindingList model={model} findings={ranked(reports)} />
      <Soundness model={model} reports={reports} />
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}

function CheckForm(props: { model: SessionModel }) {
  const controls = useControls(props.model);
  const check = useSignal("all");
  const why = controls.why("health");
  return (
    <form
      class="field-row"
      onSubmit={(event) => {
        event.preventDefault();
        if (why === null) controls.ask({ kind: "health", check: check.value });
      }}
    >
      <select
        class="input"
        aria-label="Check"
        data-testid="health-check"
        value={check.value}
        onChange={(event) => (check.value = event.currentTarget.value)}
      >
        <option value="all">all checks</option>
        {CHECKS.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <button
        type="submit"
        class="button button-primary"
        data-testid="health-confirm"
        disabled={why !== null}
        title={why ?? undefined}
      >
        {controls.pending.has("health") ? "Checking\u2026" : "Check now"}
      </button>
    </form>
  );
}

function FindingList(props: { model: SessionModel; findings: readonly RankedFinding[] }) {
  const { model, findings } = props;
  return (
    <ol class="health-findings">
      {findings.map(({ event, finding }, number) => {
        const { severity, where, what, value, meaning, remedy } = finding;
        return (
          <li
            key={`${event.report.check} ${where} ${what} ${number}`}
            class="health-finding"
            data-testid="health-finding"
            data-severity={severity}
          >
            <p class="health-head">
              <span class="health-severity">{severity}</span>
              {where !== "" && <code>{where}</code>} <strong>{what}</strong>
            </p>
            <p class="health-value">
              {value} <span class="health-when">({event.report.check}, {stepText(model, event)})</span>
            </p>
            <p>{meaning}</p>
            <p>
              <strong>Try:</strong> {remedy}
            </p>
          </li>
        );
      })}
    </ol>
  );
}

/** The checks that found nothing, and those that could not be made. */
function Soundness(props: { model: SessionModel; reports: readonly HealthReported[] }) {
  const { model, reports } = props;
  if (reports.length === 0) return <p data-testid="health-none">No check was made of this run yet.</p>;
  return (
    <ul class="health-reports">
      {reports
        .filter(({ report }) => (report.findings ?? []).length === 0)
        .map((event) => {
          const { check, refusal = "" } = event.report;
          return (
            <li key={check} data-testid="health-report" data-check={check} title={formatDate(event.time)}>
              <strong>{check}</strong>: {refusal === "" ? "nothing found" : refusal} (
              {stepText(model, event)})
            </li>
          );
        })}
    </ul>
  );
}

function stepText(model: SessionModel, event: HealthReported): string {
  const rewound = wasRewound(event, model.rewinds) ? ", rewound since" : "";
  return `step ${formatCount(event.step)}${rewound}`;
}
