import type { KeptCheckpoint, SessionDetails } from "../wire/types";

export type CheckpointChoice = "all" | "latest" | "pinned" | "none";

/** Those of the runs' own checkpoints that a choice takes along, less those that are missing. */
export function chosenCheckpoints(
  details: Pick<SessionDetails, "checkpoints">,
  runs: readonly string[],
  choice: CheckpointChoice,
): KeptCheckpoint[] {
  const there = details.checkpoints.filter(({ run, missing }) => runs.includes(run) && !missing);
  switch (choice) {
    case "all":
      return there;
    case "pinned":
      return there.filter(({ pinned }) => pinned);
    case "latest":
      // They come in the order in which they were saved.
      return [...new Map(there.map((checkpoint) => [checkpoint.run, checkpoint])).values()];
    case "none":
      return [];
  }
}

/** About how large a bundle will be, in bytes: its record is compressed, its checkpoints are not. */
export function bundleSize(
  details: SessionDetails,
  runs: readonly string[],
  choice: CheckpointChoice,
): number {
  const checkpoints = chosenCheckpoints(details, runs, choice);
  return checkpoints.reduce((sum, { size }) => sum + size, details.size.database ?? 0);
}

/** The choices as the server wants to have them; where all runs are chosen, none is named. */
export function exportQuery(
  runs: readonly string[],
  chosen: readonly string[],
  choice: CheckpointChoice,
  withModels: boolean,
): URLSearchParams {
  const query = new URLSearchParams({ checkpoints: choice });
  if (chosen.length < runs.length) for (const run of chosen) query.append("run", run);
  if (withModels) query.set("final_models", "true");
  return query;
}
