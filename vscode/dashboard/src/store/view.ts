import { signal } from "@preact/signals";
import type { StepRange } from "./detail";

/** What the charts have in common: they show the same steps of the same runs. */
export class ChartView {
  /** The step under the pointer, in whichever chart it is. */
  readonly hover = signal<number | null>(null);
  /** The steps to show; `null` shows all. */
  readonly zoom = signal<StepRange | null>(null);
  /** Between 0 (as measured) and 1. */
  readonly smoothing = signal(0);
  /** Whether charts show what happened: changes, rewinds, notes and the like. */
  readonly markers = signal(true);
  /** Runs that are left out. */
  readonly hidden = signal<ReadonlySet<string>>(new Set());
  /** Whether dark colours are in force, which canvases must be painted anew for. */
  readonly dark = signal(false);

  /** Another session is shown: its steps and runs are not those of the last one. */
  reset(): void {
    this.hover.value = null;
    this.zoom.value = null;
    this.hidden.value = new Set();
  }

  toggleRun(run: string): void {
    const hidden = new Set(this.hidden.value);
    if (!hidden.delete(run)) hidden.add(run);
    this.hidden.value = hidden;
  }
}
