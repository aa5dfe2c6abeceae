import { useSignal } from "@preact/signals";
import { memo } from "preact/compat";
import { runStyle } from "../charts/palette";
import type { LogItem } from "../store/log";
import type { SessionModel } from "../store/session";
import { RequestError } from "../transport/transport";
import { useDashboard } from "./context";
import { LogLineView } from "./log-line";
import { useTail } from "./use-tail";

/** The lines change far less often than the rest of the page, and are many. */
export const LogLines = memo(function LogLines(props: {
  model: SessionModel;
  items: readonly LogItem[];
  /** How many runs there are; a further one changes how lines are shown. */
  runs: number;
}) {
  const { model, items } = props;
  const tail = useTail(items, () => model.log.settle());
  const runs = [...model.runs.keys()];
  return (
    <div class="log-body">
      <div
        ref={tail.list}
        class="log-lines"
        data-testid="log"
        role="log"
        aria-live="off"
        aria-label="Log lines"
        tabIndex={0}
        onScroll={tail.onScroll}
      >
        <OlderLines model={model} isCut={tail.isCut} onShowMore={tail.showMore} />
        {items.length === 0 && (
          <p class="log-none">
            {model.log.items().length === 0 ? "Nothing logged yet." : "No line fits the filter."}
          </p>
        )}
        {tail.visible.map((item) => (
          <LogLineView
            key={item.key}
            item={item}
            runColor={props.runs > 1 ? runStyle(runs.indexOf(item.run)).color : null}
          />
        ))}
      </div>
      {!tail.isFollowing && (
        <button type="button" class="jump" onClick={tail.follow}>
          Jump to latest
        </button>
      )}
    </div>
  );
});

/** What leads further back: lines that are held and not in the page, then pages of older ones. */
function OlderLines(props: { model: SessionModel; isCut: boolean; onShowMore: () => void }) {
  const dashboard = useDashboard();
  const { log } = props.model;
  const problem = useSignal("");
  if (log.isFull && !props.isCut) {
    return <p class="log-none">Older lines are too many to hold here.</p>;
  }
  if (!props.isCut && !log.hasOlder) return null;
  const load = async (): Promise<void> => {
    problem.value = "";
    // Before the page comes, so that the place is kept when it is there.
    props.onShowMore();
    if (props.isCut) return;
    try {
      await dashboard.loadOlderLog(props.model);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      problem.value = error.message;
    }
  };
  return (
    <p class="log-older">
      <button type="button" class="text-button" onClick={() => void load()}>
        Load older lines
      </button>
      {problem.value}
    </p>
  );
}
