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
  | "prove";

export interface OpenDialog {
  name: DialogName;
  /** The checkpoint to begin with, where the dialog is about one. */
  checkpoint?: string;
}

/** Which dialog is open: they are opened from more than one place. */
export class Dialogs {
  readonly open = signal<OpenDialog | null>(null);

  show(name: DialogName, checkpoint?: string): void {
    this.open.value = checkpoint === undefined ? { name } : { name, checkpoint };
  }

  close(): void {
    this.open.value = null;
  }
}
