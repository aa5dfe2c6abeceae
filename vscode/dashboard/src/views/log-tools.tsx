import type { LogFilter } from "../store/log-filter";
import { SaveIcon } from "./icons";

const LEVELS = [
  { level: 0, label: "All levels" },
  { level: 20, label: "Info and up" },
  { level: 30, label: "Warnings and up" },
  { level: 40, label: "Errors" },
];

/** Which lines of the log to show, and what to do with them. */
export function LogTools(props: {
  filter: LogFilter;
  onFilter: (filter: LogFilter) => void;
  onSave: () => void;
}) {
  const { filter } = props;
  return (
    <div class="log-tools">
      <select
        aria-label="Level"
        value={String(filter.level)}
        onChange={(event) =>
          props.onFilter({ ...filter, level: Number(event.currentTarget.value) })
        }
      >
        {LEVELS.map(({ level, label }) => (
          <option key={level} value={String(level)}>
            {label}
          </option>
        ))}
      </select>
      <button
        type="button"
        class="log-brief"
        data-testid="log-brief"
        aria-pressed={filter.brief}
        title="Of evaluations and checkpoints between which nothing else happened, only the newest"
        onClick={() => props.onFilter({ ...filter, brief: !filter.brief })}
      >
        Brief
      </button>
      <input
        type="search"
        placeholder="Filter"
        aria-label="Filter by text"
        value={filter.text}
        onInput={(event) => props.onFilter({ ...filter, text: event.currentTarget.value })}
      />
      <button
        type="button"
        class="icon-button"
        data-testid="log-save"
        aria-label="Save these lines as a file"
        title="Save these lines as a file"
        onClick={props.onSave}
      >
        <SaveIcon />
      </button>
    </div>
  );
}
