import { expect, test } from "vitest";
import { markersNear } from "../src/charts/markers";
import { argumentsText, outcomeText } from "../src/format/command";
import { stageText } from "../src/format/stage";
import { commandMarker, MarkerBook, type Marker } from "../src/store/markers";
import { progressOf } from "../src/store/progress";
import { SessionModel } from "../src/store/session";
import type { Command, Outcome } from "../src/wire/types";
import {
  batch,
  checkpointSaved,
  commandChanged,
  guardTripped,
  hyperparameters,
  limits,
  loss,
  runSummary,
  sessionSummary,
  snapshot,
  stallNoticed,
} from "./fixtures";

test("the kept checkpoints follow what is written and what is let go", () => {
  const model = new SessionModel(snapshot({ checkpoints: [checkpointSaved({ step: 1 })] }));
  model.applyBatch(
    batch(
      1,
      checkpointSaved({ step: 5, label: "best", pinned: true }),
      checkpointSaved({ step: 9 }),
      { kind: "checkpoint-removed", time: 120, run: "baseline", id: "baseline@1", reason: "Ten newer ones are kept." },
    ),
  );
  expect(model.checkpoints.kept().map(({ step }) => step)).toEqual([9, 5]);
  expect(model.checkpoints.find("baseline@5")?.label).toBe("best");
  expect(model.checkpoints.find("baseline@1")).toBeUndefined();
  expect(model.markers.items().map(({ step, text }) => [step, text])).toEqual([
    [5, "best, pinned"],
    [9, "periodic"],
  ]);
  expect(model.log.items().at(-1)?.text).toBe(
    "periodic (baseline@1) is no longer kept: Ten newer ones are kept.",
  );
});

test("a checkpoint without an id, as older stores have it, is known by its path", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, { ...checkpointSaved(), id: "" }, { ...checkpointSaved({ step: 20 }), id: "" }));
  expect(model.checkpoints.size).toBe(2);
  expect(model.checkpoints.find("checkpoints/baseline-10.pt")?.step).toBe(10);
});

test("a checkpoint that could not be written is kept as a failure and warned of in the log", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(
    batch(1, { kind: "checkpoint-failed", time: 1, run: "baseline", step: 7, label: "best", reason: "disk full" }),
  );
  expect(model.checkpoints.failure).toMatchObject({ step: 7, reason: "disk full" });
  expect(model.log.items()[0]).toMatchObject({ level: 30, text: "best could not be written: disk full" });
});

test("hyperparameters, limits and determinism are those of the newest event of each run", () => {
  const model = new SessionModel(snapshot({ hyperparameters: [hyperparameters()] }));
  model.applyBatch(
    batch(
      1,
      hyperparameters({ lr_owner: "held" }),
      limits({ max_steps: 50 }),
      { kind: "determinism-assessed", time: 1, run: "baseline", exact: false, findings: ["No state."] },
    ),
  );
  expect(model.hyperparameters.get("baseline")?.lr_owner).toBe("held");
  expect(model.limits.get("baseline")?.max_steps).toBe(50);
  expect(model.determinism.get("baseline")?.findings).toEqual(["No state."]);
  expect(model.log.items()[0]?.text).toContain("No state.");
});

test("a stall lasts until it ends, a new process begins, or the run does", () => {
  const model = new SessionModel(snapshot({ stalls: [stallNoticed()] }));
  expect(model.stall?.phase).toBe("data");
  model.applyBatch(
    batch(1, { kind: "stall-ended", time: 210, run: "baseline", step: 30, phase: "data", seconds: 70 }),
  );
  expect(model.stall).toBeNull();
  model.applyBatch(
    batch(
      2,
      stallNoticed(),
      { kind: "state-changed", time: 220, run: "baseline", state: "failed", step: 30 },
    ),
  );
  expect(model.stall).toBeNull();
});

test("guards, notes, pauses and tests stand in the charts", () => {
  const model = new SessionModel(snapshot());
  const evaluation = { kind: "evaluation-finished", run: "baseline", step: 3, samples: 9 } as const;
  model.applyBatch(
    batch(
      1,
      guardTripped({ step: 5 }),
      { kind: "note-added", time: 130, run: "baseline", step: 1, author: "me", text: "look" },
      { kind: "state-changed", time: 140, run: "baseline", state: "paused", step: 2, reason: "guard" },
      commandChanged({ step: 2, outcome: { kind: "applied", step: 2 } }),
      { ...evaluation, time: 150, split: "test", values: { loss: 0.5 } },
      { ...evaluation, time: 160, split: "validation", values: { loss: 0.6 } },
    ),
  );
  expect(model.markers.items().map(({ kind, step }) => [kind, step])).toEqual([
    ["note", 1],
    ["pause", 2],
    ["test", 3],
    ["guard", 5],
  ]);
  expect(model.guards.get("non-finite")).toMatchObject({ count: 1, newest: { step: 5 } });
});

test("a change of hyperparameters stands where it was applied, with its values", () => {
  const changes = [{ name: "lr", group: 0, before: 0.1, requested: 0.07, applied: 0.05 }];
  const marker = commandMarker(
    commandChanged({
      step: 10,
      command: { kind: "set-hyperparameters", values: { lr: 0.07 } },
      outcome: { kind: "applied", step: 12, result: { kind: "hyperparameters-set", changes } },
    }),
  );
  expect(marker).toMatchObject({
    kind: "hyperparameters",
    step: 12,
    text: "lr (group 0) 0.1 \u2192 0.05, asked for 0.07",
  });
  expect(commandMarker(commandChanged({ outcome: { kind: "refused", reason: "no" } }))).toBeNull();
  expect(commandMarker(commandChanged({ command: { kind: "resume" } }))).toBeNull();
});

test("markers are bounded, and tell when they have changed", () => {
  const book = new MarkerBook();
  const marker: Marker = { key: "", kind: "note", run: "baseline", step: 0, time: 0, text: "" };
  for (let step = 0; step <= MarkerBook.LIMIT; step += 1) {
    book.add({ ...marker, key: String(step), step });
  }
  expect(book.items()).toHaveLength(MarkerBook.LIMIT);
  expect(book.items()[0]?.step).toBe(1);
  const before = book.changes;
  expect(book.items()).toBe(book.items());
  book.remove("7");
  expect(book.changes).toBe(before + 1);
});

test("the pointer means the markers in the place nearest to it", () => {
  const at = (step: number): Marker => ({ key: `${step}`, kind: "note", run: "baseline", step, time: 0, text: "" });
  const markers = [at(10), at(50), at(50), at(53)];
  expect(markersNear(markers, 51, 1).map(({ step }) => step)).toEqual([50, 50]);
  expect(markersNear(markers, 30, 1)).toEqual([]);
  expect(markersNear(markers, 30, 10)[0]?.step).toBe(10);
});

function progress(change: Parameters<typeof limits>[0] | null, step = 25, epoch = 3) {
  const began = { kind: "epoch-started", time: 1, run: "baseline" } as const;
  const model = new SessionModel(
    snapshot({
      session: sessionSummary({ runs: [runSummary({ step, epoch })] }),
      epochs: [
        { ...began, epoch: 2, step: 10 },
        { ...began, epoch: 3, step: 20 },
      ],
      limits: change === null ? [] : [limits(change)],
    }),
  );
  return progressOf(model);
}

test("the end is where the limits put it, or where the epochs lead to", () => {
  expect(progress({ max_steps: 50 })).toMatchObject({ lastStep: 50, share: 0.5, isEstimate: false });
  expect(progress({ max_epochs: 10, steps_per_epoch: 10 })).toMatchObject({
    lastStep: 100,
    lastEpoch: 10,
    share: 0.25,
    isEstimate: true,
  });
  expect(progress({ max_epochs: 10 })).toMatchObject({ lastStep: 100, isEstimate: true });
  expect(progress({ max_epochs: 10, max_steps: 50 })).toMatchObject({ lastStep: 50, isEstimate: false });
});

test("without limits there is no end in sight, and a run past its estimate is at its end", () => {
  expect(progress(null)).toMatchObject({ lastStep: null, share: null, pausesAt: null });
  expect(progress({ max_epochs: 2 })).toMatchObject({ lastStep: 25, share: 1 });
});

test("where a run pauses by itself is told", () => {
  expect(progress({ pause_at_step: 1500 })?.pausesAt).toBe("step 1,500");
  expect(progress({ pause_after_epoch: 4 })?.pausesAt).toBe("the end of epoch 4");
});

test("a new run that began from a checkpoint begins at its step", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(
    batch(1, { kind: "run-started", time: 300, run: "run2", parents: ["baseline"], checkpoint: "baseline@40", step: 40 }),
  );
  expect(model.currentRun).toMatchObject({ name: "run2", step: 40 });
});

test.each<[Command, string]>([
  [{ kind: "pause" }, ""],
  [{ kind: "pause", release: true }, "releasing device memory"],
  [{ kind: "run-for", steps: 1 }, "1 step"],
  [{ kind: "run-for", steps: null, epochs: 2 }, "2 epochs"],
  [{ kind: "extend", epochs: 2, steps: 0 }, "2 epochs"],
  [{ kind: "save-checkpoint", name: "a", pin: true }, "\u201ca\u201d, pinned"],
  [{ kind: "load-checkpoint", checkpoint: "baseline@5" }, "baseline@5"],
  [{ kind: "load-checkpoint", checkpoint: "x", as_new_run: true, run: "b" }, "x, as the new run b"],
  [{ kind: "reset", run: "" }, "as a new run"],
  [{ kind: "set-hyperparameters", values: { lr: 1e-4 }, group: 1, hold: true }, "lr 0.0001, group 1, held"],
  [{ kind: "note", text: "hm", step: 1200 }, "\u201chm\u201d, step 1,200"],
  [{ kind: "prove", steps: 10 }, "10 steps"],
])("%j is told as %j", (command, text) => {
  expect(argumentsText(command)).toBe(text);
});

test.each<[Outcome, string]>([
  [{ kind: "refused", reason: "No." }, "No."],
  [{ kind: "applied", step: 1, message: "Done." }, "Done."],
  [{ kind: "applied", step: 1, result: { kind: "proof", steps: 5, exact: true } }, "5 steps, twice the same to the last bit"],
  [{ kind: "applied", step: 1, result: { kind: "limits-set", max_epochs: 9, pause_at_step: 7 } }, "ends after epoch 9, pauses after step 7"],
  [{ kind: "applied", step: 1, result: { kind: "released", device: "cuda:0", moved: 2e9, freed: 3e9 } }, "3 GB of cuda:0 are free again"],
])("the outcome %j is told as %j", (outcome, text) => {
  expect(outcomeText(outcome)).toBe(text);
});

test("a stage is told with its progress, or the step of its end", () => {
  const command = {
    stage: "received",
    progress: { done: 12, total: 40, unit: "batches" },
    outcome: null,
    step: null,
  } as unknown as Parameters<typeof stageText>[0];
  expect(stageText(command)).toBe("12 of 40 batches");
  expect(stageText({ ...command, progress: { done: 12, total: 0, unit: "steps" } })).toBe("12 steps");
  expect(
    stageText({ ...command, stage: "applied", progress: null, outcome: { kind: "applied", step: 9 } }),
  ).toBe("applied at step 9");
});

test("commands are told in the log with their arguments", () => {
  const model = new SessionModel(snapshot());
  const command: Command = { kind: "run-for", steps: 20 };
  model.applyBatch(batch(1, loss(1), commandChanged({ command, status: "received", outcome: null })));
  expect(model.log.items().map((item) => item.text)).toEqual(["run-for 20 steps received"]);
  model.applyBatch(batch(3, commandChanged({ command })));
  expect(model.log.items().map((item) => item.text)).toEqual(["run-for 20 steps applied"]);
});
