import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { filterLog, logAsText, type LogFilter } from "../store/log-filter";
import type { SessionModel } from "../store/session";
import { useApp, useDashboard } from "./context";
import { LogLines } from "./log-lines";
import { LogToolbar } from "./log-toolbar";

/** The session's log: its newest lines, followed as they come. */
export function LogPanel(props: { model: SessionModel }) {
  const { host } = useApp();
  useDashboard();
  const { model } = props;
  const filter = useSignal<LogFilter>({ level: 0, text: "" });
  const isOpen = useSignal(true);
  const all = model.log.items();
  const items = useMemo(() => filterLog(all, filter.value), [all, filter.value]);
  return (
    <section class="log" data-open={isOpen.value} aria-label="Log">
      <LogToolbar
        filter={filter.value}
        isOpen={isOpen.value}
        count={items.length}
        onFilter={(next) => (filter.value = next)}
        onToggle={() => (isOpen.value = !isOpen.value)}
        onSave={() => host.saveFile(`${model.id}.log`, logAsText(items))}
      />
      {isOpen.value && <LogLines model={model} items={items} runs={model.runs.size} />}
    </section>
  );
}
