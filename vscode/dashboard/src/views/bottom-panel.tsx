import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { formatCount } from "../format/number";
import { filterLog, logAsText, type LogFilter } from "../store/log-filter";
import type { SessionModel } from "../store/session";
import { useApp, useDashboard } from "./context";
import { ChevronIcon } from "./icons";
import { LogLines } from "./log-lines";
import { LogTools } from "./log-tools";
import { Record } from "./record";

export type Part = "log" | "record";

/** The session's log, followed as it grows, or the record of its commands. */
export function BottomPanel(props: {
  model: SessionModel;
  part: Part;
  onPart: (part: Part) => void;
}) {
  const { host } = useApp();
  const dashboard = useDashboard();
  const { model, part } = props;
  const filter = useSignal<LogFilter>({ level: 0, text: "", brief: true });
  const isOpen = useSignal(true);
  const all = model.log.items();
  const items = useMemo(() => filterLog(all, filter.value), [all, filter.value]);
  const counts = { log: items.length, record: dashboard.commands.count(model.id) };
  const show = (next: Part): void => {
    isOpen.value = next !== part || !isOpen.value;
    props.onPart(next);
  };
  return (
    <section class="log" data-open={isOpen.value} aria-label={PARTS[part]}>
      <div class="log-toolbar">
        <div class="log-parts" role="group" aria-label="Log or record">
          {(["log", "record"] as const).map((one) => (
            <button
              key={one}
              type="button"
              class="log-toggle"
              data-testid={`show-${one}`}
              aria-expanded={part === one && isOpen.value}
              onClick={() => show(one)}
            >
              <ChevronIcon />
              {PARTS[one]}
              <span class="log-count">{formatCount(counts[one])}</span>
            </button>
          ))}
        </div>
        {isOpen.value && part === "log" && (
          <LogTools
            filter={filter.value}
            onFilter={(next) => (filter.value = next)}
            onSave={() => host.saveFile(`${model.id}.log`, logAsText(items))}
          />
        )}
      </div>
      {isOpen.value && part === "log" && (
        <LogLines model={model} items={items} runs={model.runs.size} />
      )}
      {isOpen.value && part === "record" && <Record model={model} />}
    </section>
  );
}

const PARTS: Record<Part, string> = { log: "Log", record: "Record" };
