import { useSignal } from "@preact/signals";
import { titleOf } from "../format/session";
import type { SessionSummary } from "../wire/types";
import { useDashboard } from "./context";
import { FileJobDialog } from "./file-job";

type Format = "csv" | "jsonl" | "parquet";

const FORMATS: { format: Format; label: string; hint: string }[] = [
  { format: "csv", label: "CSV", hint: "For spreadsheets, and everything else." },
  { format: "jsonl", label: "JSON lines", hint: "One object per value." },
  { format: "parquet", label: "Parquet", hint: "For pandas and the like; the smallest." },
];

/** What was measured, as a file for other programs. */
export function MetricsDialog(props: { session: SessionSummary; onClose: () => void }) {
  const { session } = props;
  const dashboard = useDashboard();
  const format = useSignal<Format>("csv");
  const isWide = useSignal(false);
  const withRewound = useSignal(false);
  const name = titleOf(session);
  return (
    <FileJobDialog
      title={`Metrics of ${name}`}
      testid="metrics-dialog"
      submit="Write the file"
      onClose={props.onClose}
      onSubmit={() => {
        const query = new URLSearchParams({ format: format.value });
        if (isWide.value && format.value !== "jsonl") query.set("wide", "true");
        if (withRewound.value) query.set("rewound", "true");
        return dashboard.jobs.ask("metrics", session.id, { name, query });
      }}
    >
      <p>Every value that was measured, of all runs.</p>
      <fieldset class="choices">
        <legend class="field-label">Format</legend>
        {FORMATS.map((one) => (
          <label key={one.format} class="choice">
            <input
              type="radio"
              name="format"
              data-testid={`metrics-${one.format}`}
              checked={format.value === one.format}
              onChange={() => (format.value = one.format)}
            />
            <span>
              <strong>{one.label}</strong>
              <span class="choice-hint">{one.hint}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <label class="check">
        <input
          type="checkbox"
          data-testid="metrics-wide"
          disabled={format.value === "jsonl"}
          checked={isWide.value && format.value !== "jsonl"}
          onChange={(event) => (isWide.value = event.currentTarget.checked)}
        />
        A row per step, with a column per metric
      </label>
      <label class="check">
        <input
          type="checkbox"
          data-testid="metrics-rewound"
          checked={withRewound.value}
          onChange={(event) => (withRewound.value = event.currentTarget.checked)}
        />
        Also what a rewind took out of the curves, marked
      </label>
    </FileJobDialog>
  );
}
