import { formatReading, unitOf } from "../format/measure";
import { formatCount } from "../format/number";
import { runsText } from "../format/runs";
import { titleOf } from "../format/session";
import { formatDate } from "../format/time";
import { progressOf } from "../store/progress";
import type { Run } from "../store/run";
import type { SessionModel } from "../store/session";
import { CommandStatus } from "./command-status";
import { useDashboard } from "./context";
import { Controls } from "./controls";
import { DeterminismBadge } from "./determinism-badge";
import { Elapsed } from "./elapsed";
import { ProgressBar } from "./progress-bar";
import { isBrief } from "./notices";
import { StatePill } from "./state-pill";

/** What the session is, what it is doing, and the buttons that change that. */
export function SessionHeader(props: { model: SessionModel }) {
  const dashboard = useDashboard();
  const { model } = props;
  const isOutdated = dashboard.isOutdated(model.state);
  return (
    <header class="session-header">
      <div class="session-title">
        <h1 title={titleOf(model)}>{titleOf(model)}</h1>
        {model.name !== "" && (
          <span class="session-project" title="The project">
            {model.project}
          </span>
        )}
        <span class="session-runs" data-testid="runs" title={model.runNames.join(", ")}>
          {runsText(model.runNames)}
        </span>
        <code class="session-id" title={`Begun ${formatDate(model.created)}`}>
          {model.id}
        </code>
        <StatePill state={model.state} connected={model.connected} isOutdated={isOutdated} />
        <StateReason model={model} />
        <DeterminismBadge model={model} />
        {!model.connected && !isOutdated && (model.state === "running" || model.state === "paused") && (
          <span class="unlinked" title="The training process runs, but does not reach this server.">
            not connected
          </span>
        )}
      </div>
      <Controls model={model} />
      <div class="facts-row">
        <Facts model={model} />
        <CommandStatus model={model} />
      </div>
      <ProgressBar model={model} />
    </header>
  );
}

/** Why the run is in its state, where that takes few words; more of them make a notice. */
function StateReason(props: { model: SessionModel }) {
  const reason = props.model.currentRun?.reason ?? "";
  if (!isBrief(props.model.state, reason)) return null;
  return <span class="state-reason">{reason}</span>;
}

function Facts(props: { model: SessionModel }) {
  useDashboard();
  const { model } = props;
  const run = model.currentRun;
  const progress = progressOf(model);
  if (!run || !progress) return null;
  const { lastStep, isEstimate, lastEpoch, pausesAt } = progress;
  const speed = speedOf(run);
  return (
    <dl class="facts">
      {model.runs.size > 1 && <Fact name="Run">{run.name}</Fact>}
      <div class="fact">
        <dt>Step</dt>
        <dd data-testid="step" data-step={run.step}>
          {formatCount(run.step)}
        </dd>
        {lastStep !== null && (
          <dd
            class="fact-of"
            data-testid="last-step"
            data-step={lastStep}
            title={isEstimate ? "Estimated from the length of an epoch" : undefined}
          >
            of {formatCount(lastStep)}
          </dd>
        )}
      </div>
      {run.epoch > 0 && (
        <div class="fact">
          <dt>Epoch</dt>
          <dd data-testid="epoch">{formatCount(run.epoch)}</dd>
          {lastEpoch !== null && <dd class="fact-of">of {formatCount(lastEpoch)}</dd>}
        </div>
      )}
      {pausesAt !== null && (
        <div class="fact fact-pause" data-testid="pauses-at">
          <dt>Pauses at</dt>
          <dd>{pausesAt}</dd>
        </div>
      )}
      {speed && (
        <div class="fact">
          <dt>{speed.name}</dt>
          <dd>{speed.text}</dd>
          {speed.unit !== null && <dd class="fact-of">{speed.unit}</dd>}
        </div>
      )}
      <Elapsed model={model} run={run} />
    </dl>
  );
}

function Fact(props: { name: string; children: string }) {
  return (
    <div class="fact">
      <dt>{props.name}</dt>
      <dd>{props.children}</dd>
    </div>
  );
}

const SPEEDS = /throughput|per_?sec(ond)?$|\/s$|it_s$/i;
const STEP_TIME = /(^|[/_.])step_time(_s|_ms)?$/i;

/** The metric that says how fast the run is, where it records one. */
function speedOf(run: Run): { name: string; text: string; unit: string | null } | null {
  const names = Object.keys(run.latest);
  const speed = names.find((name) => SPEEDS.test(name));
  const shown = speed ?? names.find((name) => STEP_TIME.test(name));
  if (shown === undefined) return null;
  const value = run.latest[shown];
  return {
    name: wordsOf(shown),
    text: formatReading(shown, value),
    unit: value == null ? null : unitOf(shown),
  };
}

function wordsOf(metric: string): string {
  const words = metric.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
