import { expect, test } from "vitest";
import { Series } from "../src/store/series";
import { wasRewound } from "../src/store/rewinds";
import { SessionModel } from "../src/store/session";
import { batch, checkpointSaved, loss, rewound, runSummary, sessionSummary, snapshot } from "./fixtures";

function stepsOf(model: SessionModel) {
  return model.metrics.runs("loss").get("baseline")?.steps;
}

test("a rewind takes later points out of its run's curves, and training draws them anew", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, loss(1, 5), loss(2, 4), loss(3, 3), loss(4, 2)));
  model.applyBatch(batch(5, rewound(2, 4), loss(3, 30)));
  const series = model.metrics.runs("loss").get("baseline");
  expect(series?.steps).toEqual([1, 2, 3]);
  expect(series?.values).toEqual([5, 4, 30]);
  expect(series?.count).toBe(3);
});

test("a rewind moves its run back: step, epoch, newest values", () => {
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, loss(1, 5), loss(2, 4), loss(3, 3), rewound(1, 3, { epoch: 7 })));
  expect(model.currentRun).toMatchObject({ step: 1, epoch: 7, updated: 500, latest: { loss: 5 } });
});

test("a rewind leaves other runs alone", () => {
  const runs = [runSummary(), runSummary({ name: "fork1" })];
  const model = new SessionModel(snapshot({ session: sessionSummary({ runs }) }));
  model.applyBatch(batch(1, loss(1), loss(9), { ...rewound(2, 9), run: "fork1" }));
  expect(stepsOf(model)).toEqual([1, 9]);
});

test("epochs that were rewound are forgotten, and those after the rewind are kept", () => {
  const began = { kind: "epoch-started", run: "baseline" } as const;
  const model = new SessionModel(
    snapshot({
      epochs: [
        { ...began, time: 100, epoch: 1, step: 0 },
        { ...began, time: 200, epoch: 2, step: 10 },
        { ...began, time: 600, epoch: 2, step: 10 },
      ],
      rewinds: [rewound(5, 14)],
    }),
  );
  expect(model.epochs.map((epoch) => epoch.time)).toEqual([100, 600]);
});

test("the rewind is told in the log and marked in the charts; what it undid is unmarked", () => {
  const model = new SessionModel(snapshot());
  const note = { kind: "note-added", time: 120, run: "baseline", author: "me" } as const;
  model.applyBatch(
    batch(1, { ...note, step: 3, text: "kept" }, { ...note, step: 8, text: "undone" }, rewound(5, 9)),
  );
  expect(model.markers.items().map(({ kind, step }) => [kind, step])).toEqual([
    ["note", 3],
    ["rewind", 5],
  ]);
  expect(model.log.items().map((item) => item.text)).toEqual([
    "kept",
    "undone",
    "back from step 9 to step 5",
  ]);
});

test("live and from a snapshot, the markers are the same", () => {
  const events = [
    checkpointSaved({ step: 4 }),
    checkpointSaved({ step: 8 }),
    rewound(4, 9),
    checkpointSaved({ step: 8, time: 600, id: "again" }),
  ] as const;
  const live = new SessionModel(snapshot());
  live.applyBatch(batch(1, ...events));
  const read = new SessionModel(
    snapshot({ checkpoints: [events[0], events[1], events[3]], rewinds: [events[2]] }),
  );
  expect(read.markers.items()).toEqual(live.markers.items());
  expect(live.markers.items().map(({ step }) => step)).toEqual([4, 4, 8]);
  // They may still be gone back to.
  expect(read.checkpoints.size).toBe(3);
});

test("what happened before the step, in another run, or after the rewind was not undone", () => {
  const rewinds = [rewound(5, 9)];
  const what = { run: "baseline", step: 8, time: 400 };
  expect(wasRewound(what, rewinds)).toBe(true);
  expect(wasRewound({ ...what, step: 5 }, rewinds)).toBe(false);
  expect(wasRewound({ ...what, run: "fork1" }, rewinds)).toBe(false);
  expect(wasRewound({ ...what, time: 501 }, rewinds)).toBe(false);
});

test("a series tells a change even when it comes to have as many points again", () => {
  const series = Series.of({ steps: [1, 2, 3], values: [1, 2, 3] }, 3);
  const before = series.changes;
  series.rewind(2);
  series.append(3, 30);
  expect(series.count).toBe(3);
  expect(series.changes).not.toBe(before);
});

test("a thinned series that is rewound a little loses as many points as there were", () => {
  const series = new Series();
  for (let step = 1; step <= 20_000; step += 1) series.append(step, step);
  series.rewind(19_000);
  expect(series.lastStep).toBe(19_000);
  expect(series.count).toBe(19_000);
  series.rewind(100);
  expect(series.steps.every((step) => step <= 100)).toBe(true);
  expect(series.count).toBeGreaterThanOrEqual(series.length);
});
