import { useSignal } from "@preact/signals";
import type { SessionModel } from "../store/session";
import { BottomPanel, type Part } from "./bottom-panel";
import { ChartGrid } from "./chart-grid";
import { Notices } from "./notices";
import { SessionHeader } from "./session-header";

/** One session: what it is doing, its charts, its log and its record. */
export function SessionView(props: { model: SessionModel }) {
  const { model } = props;
  const part = useSignal<Part>("log");
  const isChartsTab = useSignal(true);
  const show = (tab: Tab): void => {
    isChartsTab.value = tab === "charts";
    if (tab !== "charts") part.value = tab;
  };
  return (
    <div class="session" data-tab={isChartsTab.value ? "charts" : "panel"}>
      <SessionHeader model={model} />
      <Notices model={model} />
      <Tabs tab={isChartsTab.value ? "charts" : part.value} onChange={show} />
      <ChartGrid model={model} />
      <BottomPanel model={model} part={part.value} onPart={(next) => (part.value = next)} />
    </div>
  );
}

type Tab = "charts" | Part;

const TABS: Record<Tab, string> = { charts: "Charts", log: "Log", record: "Record" };

/** On narrow pages charts, log and record take turns; elsewhere the stylesheet hides these. */
function Tabs(props: { tab: Tab; onChange: (tab: Tab) => void }) {
  return (
    <div class="tabs" role="group" aria-label="Shown part">
      {(["charts", "log", "record"] as const).map((tab) => (
        <button
          key={tab}
          type="button"
          class="tab"
          aria-pressed={props.tab === tab}
          onClick={() => props.onChange(tab)}
        >
          {TABS[tab]}
        </button>
      ))}
    </div>
  );
}
