import { formatCount, formatValue } from "../format/number";
import { wasRewound } from "../store/rewinds";
import type { SessionModel } from "../store/session";
import { useDashboard } from "./context";

/** The newest result over each split, of each run. */
export function Evaluations(props: { model: SessionModel }) {
  useDashboard();
  const { model } = props;
  if (model.evaluations.size === 0) return null;
  return (
    <ul class="evaluations" aria-label="Evaluations">
      {[...model.evaluations].map(([key, evaluation]) => {
        const { run, split, step, samples, values } = evaluation;
        return (
        <li key={key} class="evaluation" data-testid="evaluation" data-split={split}>
          <p class="evaluation-head">
            <strong>{split === "test" ? "Test result" : split}</strong>
            {model.runs.size > 1 && ` \u00b7 ${run}`} &middot; step {formatCount(step)} &middot;{" "}
            {formatCount(samples)} samples
            {wasRewound(evaluation, model.rewinds) && " \u00b7 rewound since"}
          </p>
          <dl class="evaluation-values">
            {Object.entries(values).map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{formatValue(value)}</dd>
              </div>
            ))}
          </dl>
        </li>
        );
      })}
    </ul>
  );
}
