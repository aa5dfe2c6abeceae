import { orderMetrics } from "../charts/order";
import type { SessionModel } from "../store/session";
import { ChartCard } from "./chart-card";
import { ChartToolbar } from "./chart-toolbar";
import { useDashboard } from "./context";
import { Evaluations } from "./evaluations";
import { useRowHeight } from "./use-row-height";

/** A chart for every metric of the session. */
export function ChartGrid(props: { model: SessionModel }) {
  useDashboard();
  const { model } = props;
  const names = orderMetrics(model.metrics.names);
  const { scroller, grid } = useRowHeight(names.length);
  return (
    <section ref={scroller} class="charts" aria-label="Charts">
      <Evaluations model={model} />
      {names.length > 0 && <ChartToolbar model={model} />}
      <div ref={grid} class="chart-grid">
        {names.map((name) => (
          <ChartCard key={name} model={model} name={name} />
        ))}
      </div>
      {names.length === 0 && (
        <p class="waiting">
          No measurements yet. The loss of each step will be drawn here, and whatever else your
          training step returns.
        </p>
      )}
    </section>
  );
}
