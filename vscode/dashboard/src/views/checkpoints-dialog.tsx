import { useSignal } from "@preact/signals";
import { formatBytes, formatCount } from "../format/number";
import { formatAgo, formatDate } from "../format/time";
import { checkpointKey, scoreText } from "../store/checkpoints";
import type { SessionModel } from "../store/session";
import type { CheckpointSaved } from "../wire/types";
import { Dialog } from "./dialog";
import { PinIcon } from "./icons";
import { RewindForm } from "./rewind-form";
import { useControls } from "./use-controls";

/** All checkpoints that are kept, to go back to one of them. */
export function CheckpointsDialog(props: {
  model: SessionModel;
  /** The checkpoint to ask about at once. */
  checkpoint: string | null;
  onClose: () => void;
}) {
  const { model, onClose } = props;
  const chosen = useSignal<CheckpointSaved | null>(
    model.checkpoints.find(props.checkpoint ?? "") ?? null,
  );
  if (chosen.value) {
    return (
      <Dialog title="Go back?" testid="checkpoints-dialog" onClose={onClose}>
        <RewindForm
          model={model}
          checkpoint={chosen.value}
          onBack={() => (chosen.value = null)}
          onClose={onClose}
        />
      </Dialog>
    );
  }
  return (
    <Dialog title="Checkpoints" testid="checkpoints-dialog" isWide onClose={onClose}>
      <CheckpointTable model={model} onChoose={(checkpoint) => (chosen.value = checkpoint)} />
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}

function CheckpointTable(props: {
  model: SessionModel;
  onChoose: (checkpoint: CheckpointSaved) => void;
}) {
  const { model } = props;
  const controls = useControls(model);
  const kept = model.checkpoints.kept();
  if (kept.length === 0) {
    return (
      <p>
        No checkpoint is kept yet. The state before step 1 is saved by itself; others follow as
        training goes on, or by \u201cSave checkpoint\u201d.
      </p>
    );
  }
  const why = controls.why("load-checkpoint");
  const now = Date.now() / 1000;
  return (
    <>
      {why !== null && <p class="dialog-why">{why}</p>}
      <div class="table-scroll">
        <table class="table">
          <thead>
            <tr>
              <th class="number">Step</th>
              {model.runs.size > 1 && <th>Run</th>}
              <th>Saved as</th>
              <th class="number">Size</th>
              <th class="table-when">When</th>
              <th>
                <span class="visually-hidden">Action</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {kept.map((checkpoint) => {
              const { run, step, label, size, time, pinned = false } = checkpoint;
              const key = checkpointKey(checkpoint);
              const score = scoreText(checkpoint);
              return (
                <tr key={key} data-testid="checkpoint" data-checkpoint={key} data-step={step}>
                  <td class="number">{formatCount(step)}</td>
                  {model.runs.size > 1 && <td>{run}</td>}
                  <td class="table-label">
                    {label}
                    {pinned && (
                      <span class="pinned" title="Pinned: it stays until it is deleted">
                        <PinIcon />
                        <span class="visually-hidden">pinned</span>
                      </span>
                    )}
                    {score !== "" && <span class="table-more">{score}</span>}
                  </td>
                  <td class="number">{formatBytes(size)}</td>
                  <td class="table-when" title={formatDate(time)}>
                    {formatAgo(time, now)}
                  </td>
                  <td class="table-action">
                    <button
                      type="button"
                      class="text-button"
                      data-testid="checkpoint-load"
                      aria-label={`Go back to step ${step} of ${run}`}
                      disabled={why !== null}
                      title={why ?? undefined}
                      onClick={() => props.onChoose(checkpoint)}
                    >
                      Go back&hellip;
                    </button>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}
