import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { jobProgress, jobTitle, remarks, resultText } from "../src/format/job";
import { careObstacle, deletionObstacle } from "../src/store/care";
import type { Connection } from "../src/store/dashboard";
import { bundleSize, chosenCheckpoints, exportQuery } from "../src/store/export";
import { fileOf, isUnderWay, JobList, shareOf, type ShownJob } from "../src/store/jobs";
import { RequestError } from "../src/transport/transport";
import type { Job, JobResult, KeptCheckpoint, SessionDetails } from "../src/wire/types";
import { FakeTransport } from "./fake-transport";
import { sessionSummary } from "./fixtures";

let transport: FakeTransport;
let jobs: JobList;
/** What the server says of the job when it is asked next, the last of them from then on. */
let news: (Job | RequestError)[];

const job = (change: Partial<Job> = {}): Job => ({
  id: "j1",
  kind: "export",
  session: "s1",
  name: "mnist",
  state: "running",
  ...change,
});

const made: JobResult = { kind: "export", file: "x.otf.zip", size: 2000, runs: ["a"], checkpoints: 2, final_models: 0 };
const taken: JobResult = { kind: "import", session: "s1", original: "s1", project: "mnist", runs: ["a", "b"], checkpoints: 1, final_models: 1, size: 10 };

beforeEach(() => {
  vi.useFakeTimers();
  transport = new FakeTransport();
  news = [];
  let count = 0;
  jobs = new JobList({ transport, newId: () => `k${++count}`, onChange: () => undefined });
  const next = (): Job => {
    const found = news.length > 1 ? news.shift() : news[0];
    if (!found) throw new RequestError(404, "There is no news.");
    if (found instanceof RequestError) throw found;
    return found;
  };
  for (const begin of ["POST api/sessions/s1/", "DELETE api/sessions/s1", "api/jobs/"]) {
    transport.resources.set(begin, next);
  }
  transport.resources.set("DELETE api/jobs/", () => job({ state: "cancelled" }));
});

afterEach(() => {
  vi.useRealTimers();
});

const settle = () => vi.advanceTimersByTimeAsync(5000);

function only(): ShownJob {
  const [first, ...others] = jobs.all();
  if (!first || others.length > 0) throw new Error(`there are ${jobs.all().length} jobs`);
  return first;
}

test("a job is followed to its end, and what it made can be fetched", async () => {
  const seen: unknown[] = [];
  news = [job(), job({ done: 5, total: 20 }), job({ state: "done", done: 20, total: 20, result: made })];
  jobs.ask("export", "s1", { name: "mnist", query: new URLSearchParams({ checkpoints: "none" }) });
  expect(jobs.isBusy("s1")).toBe(true);
  for (let turn = 0; turn < 20 && isUnderWay(only()); turn += 1) {
    await vi.advanceTimersByTimeAsync(10);
    seen.push(shareOf(only()));
  }
  await settle();
  expect(seen).toContain(0.25);
  expect(only()).toMatchObject({ state: "done", result: made });
  expect(fileOf(only())).toBe("api/jobs/j1/file");
  expect(transport.requested[0]).toBe("POST api/sessions/s1/export?checkpoints=none&wait=0");
  expect(jobs.isBusy("s1")).toBe(false);
});

test.each([
  ["verify", "POST api/sessions/s1/verify?wait=0"],
  ["metrics", "POST api/sessions/s1/metrics/export?wait=0"],
  ["delete", "DELETE api/sessions/s1?wait=0"],
] as const)("%s is asked for where it belongs", (kind, path) => {
  news = [job({ kind, state: "done" })];
  jobs.ask(kind, "s1");
  expect(transport.requested).toEqual([path]);
});

test("a refusal stays until it was read", async () => {
  news = [new RequestError(409, "It is being trained.")];
  jobs.ask("delete", "s1");
  await settle();
  expect(only()).toMatchObject({ state: "failed", error: "It is being trained.", again: null });
  expect(jobs.isDeleting("s1")).toBe(true);
  jobs.dismiss(only().key);
  expect(jobs.all()).toEqual([]);
});

test("a job that fails later says why", async () => {
  news = [job(), new RequestError(422, "The disk is full.")];
  jobs.ask("export", "s1");
  await settle();
  expect(only()).toMatchObject({ state: "failed", error: "The disk is full." });
});

test("a job outlives a server that does not answer for a while", async () => {
  news = [job(), new RequestError(0, "gone"), new RequestError(0, "gone"), job({ state: "done", result: made })];
  jobs.ask("export", "s1");
  await settle();
  expect(only().state).toBe("done");
});

test("a job that a new server does not know has failed", async () => {
  news = [job(), new RequestError(404, "There is no job 'j1'.")];
  jobs.ask("export", "s1");
  await settle();
  expect(only()).toMatchObject({ state: "failed", error: "There is no job 'j1'." });
});

test("a cancelled job is shown no more", async () => {
  news = [job(), job({ done: 1, total: 9 }), new RequestError(410, "It was cancelled.")];
  jobs.ask("export", "s1");
  await vi.advanceTimersByTimeAsync(10);
  jobs.cancel(only().key);
  await settle();
  expect(transport.requested).toContain("DELETE api/jobs/j1");
  expect(jobs.all()).toEqual([]);
});

test("a job that is cancelled before its id is known is cancelled as soon as it is", async () => {
  news = [job(), new RequestError(410, "It was cancelled.")];
  jobs.ask("export", "s1");
  jobs.cancel(only().key);
  expect(only().isCancelling).toBe(true);
  await settle();
  expect(transport.requested).toContain("DELETE api/jobs/j1");
  expect(jobs.all()).toEqual([]);
});

test("what is dismissed without being fetched is dropped by the server too", async () => {
  news = [job({ state: "done", result: made })];
  jobs.ask("export", "s1");
  await settle();
  jobs.dismiss(only().key);
  expect(transport.requested.at(-1)).toBe("DELETE api/jobs/j1");
  expect(jobs.all()).toEqual([]);
});

const bundle = () => new File(["PK"], "run.otf.zip");

test("a bundle is sent, and then taken in", async () => {
  jobs.import(bundle());
  const [upload] = transport.uploads;
  expect(upload?.path).toBe("api/sessions?name=run.otf.zip&wait=0");
  upload?.onProgress(1, 2);
  expect(only()).toMatchObject({ state: "sending", done: 1, total: 2 });
  expect([jobTitle(only()), jobProgress(only())]).toEqual(["Sending", "1 B of 2 B"]);
  news = [job({ kind: "import", state: "done", result: taken })];
  upload?.answer(job({ kind: "import", session: "", done: 3, total: 6 }));
  await settle();
  expect(only()).toMatchObject({ state: "done", result: taken });
});

test("a session that is here already may be imported as a new one", async () => {
  jobs.import(bundle());
  transport.uploads[0]?.refuse(409, "It is here already.");
  await settle();
  const { again } = only();
  expect(again?.name).toBe("run.otf.zip");
  if (again) jobs.import(again, true);
  expect(transport.uploads[1]?.path).toBe("api/sessions?name=run.otf.zip&wait=0&as_new=true");
});

test("a damaged bundle is not offered to be imported otherwise", async () => {
  jobs.import(bundle());
  transport.uploads[0]?.refuse(422, "It is damaged.");
  await settle();
  expect(only()).toMatchObject({ state: "failed", error: "It is damaged.", again: null });
});

test("sending is broken off at once", async () => {
  jobs.import(bundle());
  jobs.cancel(only().key);
  await settle();
  expect(jobs.all()).toEqual([]);
});

test("what cannot be a bundle is not sent at all", () => {
  jobs.import(new File(["x"], "holiday.jpg"));
  expect(transport.uploads).toEqual([]);
  expect(only().error).toBe("holiday.jpg is no bundle: the name of one ends in .otf.zip.");
});

test("what goes on when the page is opened is taken up, and what waits to be fetched", async () => {
  transport.resources.delete("api/jobs/");
  transport.resources.set("api/jobs/j1", () => job({ state: "done", result: made }));
  transport.resources.set("api/jobs", () => [
    job(),
    job({ id: "j2", state: "done", result: made }),
    job({ id: "j3", kind: "verify", state: "done", result: { kind: "verify", ok: true, files: 1, size: 1 } }),
    job({ id: "j4", state: "failed", error: "x" }),
  ]);
  await jobs.rejoin();
  await jobs.rejoin();
  expect(jobs.all().map(({ id }) => id)).toEqual(["j2", "j1"]);
});

test("a server that knows no jobs is no trouble", async () => {
  transport.resources.clear();
  await jobs.rejoin();
  expect(jobs.all()).toEqual([]);
});

// Words

test("results are sentences", () => {
  expect(resultText(made)).toBe("1 run, 2 checkpoints, 2 kB.");
  expect(resultText(taken)).toBe("2 runs, 1 checkpoint, 1 final model, 10 B.");
  expect(resultText({ ...taken, session: "s2" })).toContain("Its id is s2; it was s1.");
  expect(resultText({ ...taken, original: "", session: "s2" })).not.toContain("it was");
  expect(resultText({ kind: "delete", freed: 1500 })).toBe("1.5 kB are free.");
  expect(resultText({ kind: "metrics", file: "x", size: 10, points: 12345 })).toBe("12,345 points, 10 B.");
  expect(resultText({ kind: "verify", ok: true, files: 3, size: 10 })).toBe("It is sound: 3 files, 10 B.");
  const faults = [{ name: "a.pt", problem: "It is missing." }];
  const unsound: JobResult = { kind: "verify", ok: false, files: 3, size: 10, faults };
  expect(resultText(unsound)).toBe("It is not sound: 1 of its 3 files.");
  expect(remarks(unsound)).toEqual(["a.pt: It is missing."]);
  expect(remarks({ ...made, notes: ["left out"] })).toEqual(["left out"]);
  expect(remarks({ kind: "metrics", file: "x", size: 1, points: 1, damage: "cut short" })).toEqual(["cut short"]);
});

// What can be done

const around = (kind: Connection["kind"], isBusy = false) => ({
  connection: { value: { kind } as Connection },
  jobs: { isBusy: () => isBusy },
});

test("a session is deleted when nobody trains it and nothing is done with it", () => {
  const ended = sessionSummary({ state: "finished" });
  expect(deletionObstacle(ended, around("open"))).toBeNull();
  expect(deletionObstacle(sessionSummary({ state: "lost" }), around("open"))).toBeNull();
  expect(deletionObstacle(ended, around("open", true))).toContain("Wait for that");
  expect(deletionObstacle(ended, around("closed"))).toContain("no connection");
  for (const state of ["starting", "running", "paused"] as const) {
    expect(deletionObstacle(sessionSummary({ state }), around("open"))).toContain("Stop it first");
  }
  expect(careObstacle(around("open", true))).toBeNull();
});

const kept = (change: Partial<KeptCheckpoint>): KeptCheckpoint => ({
  id: "x",
  run: "a",
  step: 1,
  epoch: 1,
  label: "periodic",
  time: 1,
  path: "",
  size: 10,
  pinned: false,
  missing: false,
  ...change,
});

const details: SessionDetails = {
  ...sessionSummary(),
  folder: "",
  size: { database: 7 },
  checkpoints: [
    kept({ id: "a1" }),
    kept({ id: "a2", pinned: true }),
    kept({ id: "a3", size: 100 }),
    kept({ id: "a4", missing: true }),
    kept({ id: "b1", run: "b" }),
  ],
};

test.each([
  ["all", ["a1", "a2", "a3", "b1"]],
  ["latest", ["a3", "b1"]],
  ["pinned", ["a2"]],
  ["none", []],
] as const)("of checkpoints, %s are taken along", (choice, expected) => {
  const runs = ["a", "b"];
  expect(chosenCheckpoints(details, runs, choice).map(({ id }) => id)).toEqual(expected);
  const one = chosenCheckpoints(details, ["b"], choice).map(({ id }) => id);
  expect(one).toEqual(expected.filter((id) => id.startsWith("b")));
});

test("a bundle is about as large as its record and its checkpoints", () => {
  expect(bundleSize(details, ["a", "b"], "latest")).toBe(7 + 100 + 10);
  expect(bundleSize(details, ["a", "b"], "none")).toBe(7);
});

test("runs are named only where some are left out", () => {
  expect(exportQuery(["a", "b"], ["a", "b"], "all", false).toString()).toBe("checkpoints=all");
  expect(exportQuery(["a", "b"], ["b"], "none", true).toString()).toBe(
    "checkpoints=none&run=b&final_models=true",
  );
});
