// @vitest-environment happy-dom

import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RequestError } from "../src/transport/transport";
import type { Job, JobResult, SessionSummary } from "../src/wire/types";
import { runSummary, sessionSummary } from "./fixtures";
import { Page } from "./page";

let page: Page;

beforeEach(async () => {
  page = await Page.open();
});

afterEach(() => {
  page.close();
});

const ended = (change: Partial<SessionSummary> = {}) =>
  sessionSummary({
    state: "finished",
    connected: false,
    runs: [runSummary({ state: "finished" }), runSummary({ name: "fork1", state: "finished" })],
    ...change,
  });

const done = (result: Job["result"], change: Partial<Job> = {}): Job => ({
  id: "j1",
  kind: "export",
  session: "s1",
  name: "mnist",
  state: "done",
  result: result ?? null,
  ...change,
});

function answer(path: string, body: unknown): void {
  page.transport.resources.set(path, () => {
    if (body instanceof RequestError) throw body;
    return body;
  });
}

/** Let what was asked for be answered. */
const settle = () => act(() => new Promise((resolve) => setTimeout(resolve, 0)));

async function open(session: SessionSummary): Promise<void> {
  answer("api/sessions/s1/details", {
    ...session,
    folder: "",
    size: { database: 1000, total: 5_000_000 },
    checkpoints: [],
  });
  await page.show(session);
}

async function choose(entry: string): Promise<void> {
  await page.click("session-menu", `session-${entry}`);
  await settle();
}

const press = (element: HTMLElement | undefined) =>
  act(() => {
    element?.click();
  });

const send = () =>
  act(() => {
    page.dashboard.jobs.import(new File(["x"], "run.otf.zip"));
  });

test("a session is shown by its name, with its project beside it", async () => {
  await open(ended({ name: "best so far" }));
  expect(page.text("session-name")).toBe("best so far");
  expect(page.text("session-item")).toContain("mnist");
  await page.receive({ frame: "session-changed", session: ended() });
  expect(page.text("session-name")).toBe("mnist");
});

test("a session is renamed in its place, which is seen before the server tells all", async () => {
  await open(ended());
  answer("PUT api/sessions/s1/name", ended({ name: "mine" }));
  await choose("rename");
  expect(page.has("session-item")).toBe(false);
  expect(document.activeElement).toBe(page.find("rename-input"));
  await page.type("rename-input", "  mine ");
  await page.click("rename-confirm");
  await settle();
  expect(page.transport.bodies).toEqual([{ name: "mine" }]);
  expect(page.text("session-name")).toBe("mine");
});

test("a name that is refused stays, with the reason, until it is mended", async () => {
  await open(ended());
  answer("PUT api/sessions/s1/name", new RequestError(422, "'latest' is the newest session."));
  await choose("rename");
  await page.type("rename-input", "latest");
  await page.click("rename-confirm");
  await settle();
  expect(page.text("rename-problem")).toBe("'latest' is the newest session.");
  expect((page.find("rename-input") as HTMLInputElement).value).toBe("latest");
  await page.type("rename-input", "newest");
  expect(page.text("rename-problem")).not.toContain("latest");
});

test("Escape leaves a name as it is", async () => {
  await open(ended());
  await choose("rename");
  const escape = new KeyboardEvent("keydown", { key: "Escape", bubbles: true });
  await act(() => {
    page.find("rename-input").dispatchEvent(escape);
  });
  expect(page.has("rename-form")).toBe(false);
  expect(page.transport.bodies).toEqual([]);
});

test("an export asks for what was chosen, and offers the file", async () => {
  await open(ended());
  answer(
    "POST api/sessions/s1/export",
    done({ kind: "export", file: "x", size: 2000, runs: ["baseline"], checkpoints: 0, final_models: 0 }),
  );
  await choose("export");
  const [, fork] = page.all("export-run");
  await press(fork);
  await page.click("export-pinned", "export-models", "export-dialog-confirm");
  await settle();
  expect(page.transport.requested.at(-1)).toBe(
    "POST api/sessions/s1/export?checkpoints=pinned&run=baseline&final_models=true&wait=0",
  );
  await page.click("job-download");
  expect(page.download).toHaveBeenCalledWith("api/jobs/j1/file");
});

test("of the runs to export, one at least stays chosen", async () => {
  await open(ended());
  await choose("export");
  for (const run of page.all("export-run")) await press(run);
  expect(page.all("export-run").map((run) => (run as HTMLInputElement).checked)).toEqual([false, true]);
});

test("metrics are asked for in a format", async () => {
  await open(ended());
  answer("POST api/sessions/s1/metrics/export", new RequestError(404, "There are no metrics yet."));
  await choose("metrics");
  await page.click("metrics-wide", "metrics-parquet", "metrics-dialog-confirm");
  await settle();
  expect(page.transport.requested.at(-1)).toBe(
    "POST api/sessions/s1/metrics/export?format=parquet&wide=true&wait=0",
  );
  expect(page.all("job-error").map((each) => each.textContent)).toContain("There are no metrics yet.");
});

test("a deletion asks first and says how much goes, and afterwards how much is free", async () => {
  await open(ended());
  answer("DELETE api/sessions/s1", done({ kind: "delete", freed: 5_000_000 }, { kind: "delete" }));
  await choose("delete");
  expect(page.text("delete-size")).toContain("5 MB on disk: 2 runs, 0 checkpoints.");
  expect(page.transport.requested.some((path) => path.startsWith("DELETE"))).toBe(false);
  await page.click("delete-confirm");
  await settle();
  await page.receive({ frame: "session-gone", session: "s1" });
  expect(page.has("delete-dialog")).toBe(false);
  expect(page.text("job-result")).toBe("5 MB are free.");
});

test("a session that is trained cannot be deleted, and says why", async () => {
  await open(sessionSummary());
  await page.click("session-menu");
  expect(page.isDisabled("session-delete")).toBe(true);
  expect(page.text("session-delete")).toContain("Stop it first");
  expect(page.isDisabled("session-export")).toBe(false);
});

test("what was deleted here is not missed; what was deleted elsewhere is", async () => {
  const other = ended({ id: "s2", created: 50 });
  for (const isHere of [true, false]) {
    answer("DELETE api/sessions/s2", done({ kind: "delete", freed: 1 }, { kind: "delete" }));
    await page.show(ended(), other);
    await act(() => page.dashboard.pick("s2"));
    if (isHere) page.dashboard.jobs.ask("delete", "s2");
    await page.receive({ frame: "session-gone", session: "s2" });
    expect(page.dashboard.picked.value).toBe(isHere ? null : "s2");
    for (const { key } of page.dashboard.jobs.all()) page.dashboard.jobs.dismiss(key);
    await settle();
    for (const { key } of page.dashboard.jobs.all()) page.dashboard.jobs.dismiss(key);
  }
});

test("a verification tells what is wrong", async () => {
  await open(ended());
  const faults = [{ name: "checkpoints/a.pt", problem: "Its file is missing." }];
  answer("POST api/sessions/s1/verify", done({ kind: "verify", ok: false, files: 3, size: 10, faults }));
  await choose("verify");
  expect(page.text("job-result")).toBe("It is not sound: 1 of its 3 files.");
  expect(page.text("job-remarks")).toBe("checkpoints/a.pt: Its file is missing.");
});

test("a bundle that is refused stays told until it is dismissed", async () => {
  await open(ended());
  await send();
  expect(page.text("job")).toContain("Sending run.otf.zip");
  await act(() => page.transport.uploads[0]?.refuse(422, "run.otf.zip is refused."));
  await settle();
  await page.show(ended());
  expect(page.text("job-error")).toBe("run.otf.zip is refused.");
  expect(page.has("job-as-new")).toBe(false);
  await page.click("job-dismiss");
  expect(page.has("job")).toBe(false);
});

test("what is imported can be shown at once", async () => {
  await open(ended());
  await send();
  await act(() => page.transport.uploads[0]?.refuse(409, "It is here already."));
  await settle();
  await page.click("job-as-new");
  const counts = { runs: [], checkpoints: 0, final_models: 0, size: 1 };
  const names = { session: "s2", original: "s1", project: "mnist" };
  const result: JobResult = { kind: "import", ...names, ...counts };
  await act(() => page.transport.uploads[1]?.answer(done(result, { kind: "import" })));
  await settle();
  await page.receive({ frame: "session-changed", session: ended({ id: "s2", created: 1 }) });
  await page.click("job-show");
  expect(page.dashboard.selected).toBe("s2");
});

test("without a session there is a way to import one", async () => {
  await page.show();
  expect(page.has("import-first")).toBe(true);
});
