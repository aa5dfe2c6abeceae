import { readingAt } from "../charts/nearest";
import { shownRuns } from "../charts/line";
import { formatReading } from "../format/measure";
import { formatCount } from "../format/number";
import type { SessionModel } from "../store/session";
import { useApp, useDashboard } from "./context";
import { Swatch } from "./swatch";

/** Each run's value at the step under the pointer, in whichever chart it is; else its newest. */
export function ChartReadings(props: { model: SessionModel; name: string }) {
  const { charts } = useApp();
  useDashboard();
  const hover = charts.hover.value;
  const shown = shownRuns(props.model, props.name, charts.hidden.value);
  return (
    <span class="readings">
      {shown.map(({ run, style, series }) => {
        const reading = readingAt(series, hover);
        return (
          <span key={run} class="reading" title={run}>
            {shown.length > 1 && <Swatch style={style} />}
            <span class="reading-value" data-finite={reading?.value !== null}>
              {formatReading(props.name, reading?.value)}
            </span>
            {shown.length === 1 && hover !== null && reading && reading.step !== hover && (
              <span class="reading-step">step {formatCount(reading.step)}</span>
            )}
          </span>
        );
      })}
    </span>
  );
}
