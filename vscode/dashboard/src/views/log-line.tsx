import { memo } from "preact/compat";
import { formatCount } from "../format/number";
import { formatClock, formatDate } from "../format/time";
import type { LogItem } from "../store/log";
import { levelName } from "../store/log-filter";

/** One line of the log; a line never changes, so it is rendered once. */
export const LogLineView = memo(function LogLineView(props: {
  item: LogItem;
  /** The custom property with the run's colour; `null` where there is only one run. */
  runColor: string | null;
}) {
  const { item } = props;
  const level = levelName(item.level);
  return (
    <div class="log-line" data-level={level} data-kind={item.kind}>
      <time class="log-time" title={formatDate(item.time)}>
        {formatClock(item.time)}
      </time>
      <span class="log-step">{item.step === null ? "" : formatCount(item.step)}</span>
      <span class="log-level">{item.kind === "line" ? level : item.kind}</span>
      <span class="log-text">
        {props.runColor !== null && (
          <span style={{ color: `var(${props.runColor})` }}>{item.run} </span>
        )}
        {item.source !== "" && item.source !== "root" && item.source !== item.kind && (
          <span class="log-source">{item.source} </span>
        )}
        {item.text}
      </span>
    </div>
  );
});
