import type { SessionModel } from "../store/session";
import { ExtendDialog, RunForDialog } from "./amount-dialog";
import { CheckpointsDialog } from "./checkpoints-dialog";
import { useApp, useDashboard } from "./context";
import { HealthDialog } from "./health-dialog";
import { HyperparametersDialog } from "./hyperparameters-dialog";
import { NoteDialog } from "./note-dialog";
import { ProveDialog } from "./prove-dialog";
import { ResetDialog } from "./reset-dialog";
import { SaveDialog } from "./save-dialog";
import { StopDialog } from "./stop-dialog";

/** The dialog that is open, if one is. */
export function SessionDialogs(props: { model: SessionModel }) {
  const { dialogs } = useApp();
  useDashboard();
  const open = dialogs.open.value;
  if (!open) return null;
  const common = { model: props.model, onClose: () => dialogs.close() };
  switch (open.name) {
    case "run-for":
      return <RunForDialog {...common} />;
    case "stop":
      return <StopDialog {...common} />;
    case "save-checkpoint":
      return <SaveDialog {...common} />;
    case "checkpoints":
      return <CheckpointsDialog {...common} checkpoint={open.checkpoint ?? null} />;
    case "reset":
      return <ResetDialog {...common} />;
    case "extend":
      return <ExtendDialog {...common} />;
    case "hyperparameters":
      return <HyperparametersDialog {...common} />;
    case "note":
      return <NoteDialog {...common} />;
    case "prove":
      return <ProveDialog {...common} />;
    case "health":
      return <HealthDialog {...common} />;
  }
}
