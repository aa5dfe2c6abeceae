import { signal } from "@preact/signals";

export type DialogName =
  | "run-for"
  | "stop"
  | "save-checkpoint"
  | "checkpoints"
  | "reset"
  | "extend"
  | "hyperparameters"
  | "note"
  | "prove"
  | "health";

export interface OpenDialog {
  name: DialogName;
  /** The checkpoint to begin with, where the dialog is about one. */
  checkpoint?: string;
}

/** Dialogs that are about any session of the list, whichever is shown. */
export type ListDialogName = "export" | "metrics" | "delete";

/** Which dialog is open: they are opened from more than one place. */
export class Dialogs {
  readonly open = signal<OpenDialog | null>(null);
  readonly listed = signal<{ name: ListDialogName; session: string } | null>(null);

  show(name: DialogName, checkpoint?: string): void {
    this.open.value = checkpoint === undefined ? { name } : { name, checkpoint };
  }

  close(): void {
    this.open.value = null;
  }
}
