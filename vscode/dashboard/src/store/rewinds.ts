import type { Rewound } from "../wire/types";

/** Something that happened at a step of a run. */
export interface Happening {
  run: string;
  step: number;
  time: number;
}

/** Whether something was undone: its run went back to before it, after it had happened. */
export function wasRewound(what: Happening, rewinds: readonly Rewound[]): boolean {
  return rewinds.some((rewind) => undoes(rewind, what));
}

/** Whether a rewind undid something. */
export function undoes(rewind: Rewound, what: Happening): boolean {
  return rewind.run === what.run && rewind.step < what.step && rewind.time >= what.time;
}
