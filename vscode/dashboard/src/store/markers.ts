/** Events told as vertical lines in the charts. */

import { argumentsText, outcomeText } from "../format/command";
import { formatCount, formatValue } from "../format/number";
import type {
  CheckpointSaved,
  CommandChanged,
  EvaluationFinished,
  GuardTripped,
  NoteAdded,
  Rewound,
  StateChanged,
} from "../wire/types";
import { checkpointKey, scoreText } from "./checkpoints";
import { undoes } from "./rewinds";

export type MarkerKind =
  "checkpoint" | "test" | "pause" | "note" | "hyperparameters" | "rewind" | "guard";

/** Something that happened at a step, to be found again in the curves. */
export interface Marker {
  key: string;
  kind: MarkerKind;
  run: string;
  step: number;
  time: number;
  text: string;
}

/** The markers of a session, but for those of steps that were rewound. */
export class MarkerBook {
  /** Markers held at most: more cannot be told apart, and slow down the drawing. */
  static readonly LIMIT = 2000;

  readonly #byKey = new Map<string, Marker>();
  #sorted: Marker[] | null = null;
  /** Counts the changes, so that who drew the markers knows whether to draw them again. */
  changes = 0;

  add(marker: Marker): void {
    this.#byKey.delete(marker.key);
    this.#byKey.set(marker.key, marker);
    if (this.#byKey.size > MarkerBook.LIMIT) {
      const [oldest] = this.#byKey.keys();
      if (oldest !== undefined) this.#byKey.delete(oldest);
    }
    this.#touch();
  }

  remove(key: string): void {
    if (this.#byKey.delete(key)) this.#touch();
  }

  /** Take out what was undone. */
  rewind(event: Rewound): void {
    for (const marker of this.#byKey.values()) {
      if (undoes(event, marker)) this.#byKey.delete(marker.key);
    }
    this.#touch();
  }

  /** Ascending by step; the same list until something changes. */
  items(): readonly Marker[] {
    this.#sorted ??= [...this.#byKey.values()].sort((a, b) => a.step - b.step || a.time - b.time);
    return this.#sorted;
  }

  #touch(): void {
    this.changes += 1;
    this.#sorted = null;
  }
}

export function checkpointMarker(event: CheckpointSaved): Marker {
  const { run, step, time, label } = event;
  const score = scoreText(event);
  const parts = [label, event.pinned === true ? "pinned" : "", score];
  const text = parts.filter((part) => part !== "").join(", ");
  return { key: checkpointMarkerKey(event), kind: "checkpoint", run, step, time, text };
}

export function checkpointMarkerKey(event: CheckpointSaved): string {
  return `checkpoint ${checkpointKey(event)}`;
}

export function testMarker(event: EvaluationFinished): Marker {
  const { run, step, time, split, values } = event;
  const means = Object.entries(values).map(([name, value]) => `${name} ${formatValue(value)}`);
  return { key: `test ${run} ${split} ${time}`, kind: "test", run, step, time, text: means.join(", ") };
}

export function pauseMarker({ run, step, time, reason = "" }: StateChanged): Marker {
  return { key: `pause ${run} ${step}`, kind: "pause", run, step, time, text: reason };
}

export function noteMarker({ run, step, time, author, text }: NoteAdded): Marker {
  return { key: `note ${run} ${step} ${time}`, kind: "note", run, step, time, text: `${text} (${author})` };
}

export function guardMarker({ run, step, time, guard, message }: GuardTripped): Marker {
  return { key: `guard ${guard} ${run} ${time}`, kind: "guard", run, step, time, text: `${guard}: ${message}` };
}

export function rewindMarker(event: Rewound): Marker {
  const { run, step, time, left_step, reason = "" } = event;
  const why = reason === "" ? "" : `: ${reason}`;
  const text = `back from step ${formatCount(left_step)}${why}`;
  return { key: `rewind ${run} ${time}`, kind: "rewind", run, step, time, text };
}

/** What a command leaves in the charts, if anything. */
export function commandMarker(event: CommandChanged): Marker | null {
  if (event.outcome?.kind !== "applied") return null;
  const { id, run, time, command } = event;
  const { step } = event.outcome;
  if (command.kind !== "set-hyperparameters") return null;
  const text = outcomeText(event.outcome) || argumentsText(command);
  return { key: `command ${id}`, kind: "hyperparameters", run, step, time, text };
}
