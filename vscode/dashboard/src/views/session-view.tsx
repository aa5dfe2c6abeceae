import { useSignal } from "@preact/signals";
import type { SessionModel } from "../store/session";
import { ChartGrid } from "./chart-grid";
import { LogPanel } from "./log-panel";
import { Notices } from "./notices";
import { SessionHeader } from "./session-header";

type Tab = "charts" | "log";

/** One session: what it is doing, its charts and its log. */
export function SessionView(props: { model: SessionModel }) {
  const { model } = props;
  const tab = useSignal<Tab>("charts");
  return (
    <div class="session" data-tab={tab.value}>
      <SessionHeader model={model} />
      <Notices model={model} />
      <Tabs tab={tab.value} onChange={(next) => (tab.value = next)} />
      <ChartGrid model={model} />
      <LogPanel model={model} />
    </div>
  );
}

/** On narrow pages charts and log take turns; elsewhere the stylesheet hides these. */
function Tabs(props: { tab: Tab; onChange: (tab: Tab) => void }) {
  return (
    <div class="tabs" role="group" aria-label="Shown part">
      {(["charts", "log"] as const).map((tab) => (
        <button
          key={tab}
          type="button"
          class="tab"
          aria-pressed={props.tab === tab}
          onClick={() => props.onChange(tab)}
        >
          {tab === "charts" ? "Charts" : "Log"}
        </button>
      ))}
    </div>
  );
}
