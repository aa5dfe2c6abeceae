import { expect, test, vi } from "vitest";
import { epochAt } from "../src/store/epochs";
import { SessionModel } from "../src/store/session";
import type { AnyEvent } from "../src/wire/types";
import { batch, commandChanged, logLine, loss, rewound, runSummary, sessionSummary, snapshot } from "./fixtures";

function lossOf(model: SessionModel) {
  return model.metrics.runs("loss").get("baseline");
}

test("a snapshot and the batches after it give every point once, in order", () => {
  const model = new SessionModel(
    snapshot({
      seq: 10,
      series: [{ run: "baseline", name: "loss", count: 3, steps: [1, 2, 3], values: [3, 2, 1] }],
    }),
  );
  expect(model.applyBatch(batch(11, loss(4), loss(5)))).toBe(true);
  expect(model.applyBatch(batch(13, loss(6)))).toBe(true);
  expect(lossOf(model)?.steps).toEqual([1, 2, 3, 4, 5, 6]);
  expect(lossOf(model)?.count).toBe(6);
  expect(model.seq).toBe(13);
});

test("events that were applied before are dropped, whole batches and overlaps alike", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, loss(1), loss(2)));
  expect(model.applyBatch(batch(1, loss(1), loss(2)))).toBe(true);
  expect(model.applyBatch(batch(2, loss(2), loss(3)))).toBe(true);
  expect(lossOf(model)?.steps).toEqual([1, 2, 3]);
  expect(lossOf(model)?.count).toBe(3);
  expect(model.seq).toBe(3);
});

test("a batch after a gap is refused as a whole", () => {
  const model = new SessionModel(snapshot({ seq: 5 }));
  expect(model.applyBatch(batch(7, loss(1)))).toBe(false);
  expect(model.seq).toBe(5);
  expect(lossOf(model)).toBeUndefined();
});

test("an event of an unknown kind keeps its place in the count", () => {
  const warn = vi.spyOn(console, "warn").mockReturnValue();
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, { kind: "from-the-future" } as unknown as AnyEvent, loss(1)));
  expect(model.seq).toBe(2);
  expect(warn).toHaveBeenCalledOnce();
  warn.mockRestore();
});

test("metrics move the run's step, its newest values and the elapsed time", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, loss(7, null)));
  expect(model.currentRun).toMatchObject({ step: 7, updated: 107, latest: { loss: null } });
});

test("events change the state, and a summary older than they are does not change it back", () => {
  const model = new SessionModel(snapshot({ seq: 4 }));
  model.applyBatch(
    batch(5, { kind: "state-changed", time: 101, run: "baseline", state: "paused", step: 9 }),
  );
  model.applySummary(sessionSummary({ last_seq: 4, connected: false }));
  expect(model.state).toBe("paused");
  expect(model.connected).toBe(false);
  expect(model.currentRun?.step).toBe(9);
});

test("a lost process is found again only by newer events", () => {
  const model = new SessionModel(snapshot({ seq: 2 }));
  model.applySummary(sessionSummary({ state: "lost", last_seq: 4 }));
  expect(model.state).toBe("lost");
  model.applyBatch(batch(3, loss(1), loss(2)));
  expect(model.state).toBe("lost");
  model.applyBatch(batch(5, loss(3)));
  expect(model.state).toBe("running");
});

test("a finished run is not lost when its process ends", () => {
  const runs = [runSummary({ state: "finished" })];
  const model = new SessionModel(
    snapshot({ session: sessionSummary({ state: "lost", runs }) }),
  );
  expect(model.state).toBe("finished");
});

test("a new run joins with its parents, and the run that moved last is the current one", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(
    batch(
      1,
      { kind: "run-started", time: 200, run: "fork1", parents: ["baseline"] },
      { kind: "state-changed", time: 201, run: "fork1", state: "running", step: 0 },
    ),
  );
  expect([...model.runs.keys()]).toEqual(["baseline", "fork1"]);
  expect(model.currentRun?.name).toBe("fork1");
  expect(model.currentRun?.parents).toEqual(["baseline"]);
});

test("a step belongs to the last epoch that began before it, in its own run", () => {
  const began = { kind: "epoch-started", time: 1 } as const;
  const epochs = [
    { ...began, run: "baseline", epoch: 1, step: 0 },
    { ...began, run: "baseline", epoch: 2, step: 10 },
    { ...began, run: "fork1", epoch: 7, step: 3 },
  ];
  expect([1, 10, 11].map((step) => epochAt(epochs, "baseline", step))).toEqual([1, 1, 2]);
  expect(epochAt(epochs, "fork1", 3)).toBeUndefined();
});

test("epochs, evaluations, checkpoints, commands and losses of records are told", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(
    batch(
      1,
      { kind: "epoch-started", time: 101, run: "baseline", epoch: 2, step: 10 },
      logLine("hello", { time: 102 }),
      {
        kind: "evaluation-finished",
        time: 103,
        run: "baseline",
        step: 10,
        split: "test",
        samples: 2000,
        values: { loss: 0.5, accuracy: null },
      },
      {
        kind: "checkpoint-saved",
        time: 104,
        run: "baseline",
        step: 10,
        label: "last",
        path: "checkpoints/a.pt",
        size: 1_500_000,
        sha256: "",
      },
      commandChanged({ time: 105, status: "refused", outcome: { kind: "refused", reason: "no" } }),
      { kind: "records-dropped", time: 106, run: "baseline", count: 12, reason: "disk full" },
    ),
  );
  expect(model.currentRun?.epoch).toBe(2);
  expect(model.evaluations.get("baseline test")?.values.loss).toBe(0.5);
  expect(model.dropped).toBe(12);
  expect(model.log.items().map((item) => item.text)).toEqual([
    "hello",
    "loss 0.5, accuracy not finite over 2,000 samples",
    "last saved, 1.5 MB: checkpoints/a.pt",
    "pause refused: no",
    "12 records were given up: disk full",
  ]);
});

test("pauses stand in the charts alike after a reload, whatever they were asked for by", () => {
  const paused = {
    kind: "state-changed",
    time: 120,
    run: "baseline",
    state: "paused",
    step: 20,
    reason: "as far as run-for was to go",
  } as const;
  const live = new SessionModel(snapshot());
  live.applyBatch(batch(1, paused));
  const reloaded = new SessionModel(snapshot({ pauses: [paused] }));
  expect(reloaded.markers.items()).toEqual(live.markers.items());
  expect(reloaded.markers.items()).toMatchObject([{ kind: "pause", step: 20, text: paused.reason }]);
});

test("a pause of steps that were rewound is in the charts no more", () => {
  const paused = { kind: "state-changed", time: 120, run: "baseline", state: "paused", step: 20 } as const;
  const model = new SessionModel(snapshot({ pauses: [paused], rewinds: [rewound(10, 20)] }));
  expect(model.markers.items().map(({ kind }) => kind)).toEqual(["rewind"]);
});
