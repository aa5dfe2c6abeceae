import { formatValue } from "../format/number";
import type { CheckpointFailed, CheckpointRemoved, CheckpointSaved } from "../wire/types";

/** The checkpoints of a session that are kept, and those that could not be written. */
export class CheckpointBook {
  readonly #kept = new Map<string, CheckpointSaved>();
  /** How many could not be written, and the last of them. */
  failures = 0;
  failure: CheckpointFailed | null = null;

  save(event: CheckpointSaved): void {
    this.#kept.set(checkpointKey(event), event);
  }

  /** The checkpoint that is no longer kept, if it was known. */
  remove(event: CheckpointRemoved): CheckpointSaved | undefined {
    const removed = this.#kept.get(event.id);
    this.#kept.delete(event.id);
    return removed;
  }

  fail(event: CheckpointFailed): void {
    this.failures += 1;
    this.failure = event;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** The newest first. */
  kept(): CheckpointSaved[] {
    return [...this.#kept.values()].sort((a, b) => b.time - a.time);
  }

  /** A checkpoint by its id, or as `RUN@STEP`. */
  find(name: string): CheckpointSaved | undefined {
    if (name === "") return undefined;
    return (
      this.#kept.get(name) ?? this.kept().find(({ run, step }) => `${run}@${step}` === name)
    );
  }
}

/** What makes a best checkpoint the best; empty for the others. */
export function scoreText({ score }: CheckpointSaved): string {
  return typeof score === "number" ? `validation loss ${formatValue(score)}` : "";
}

/** What a checkpoint is called in commands; older stores know only paths. */
export function checkpointKey({ id, path }: CheckpointSaved): string {
  return id === undefined || id === "" ? path : id;
}
