// @vitest-environment happy-dom

import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { RunState } from "../src/wire/types";
import { batch, logLine, loss, runSummary, sessionSummary, snapshot } from "./fixtures";
import { Page } from "./page";

let page: Page;

beforeEach(async () => {
  page = await Page.open();
});

afterEach(() => page.close());

test("without sessions there is something to copy", async () => {
  await page.show();
  expect(page.root.textContent).toContain("No sessions yet");
  await act(() => page.root.querySelector<HTMLButtonElement>(".snippet button")?.click());
  expect(page.copy).toHaveBeenCalledWith(expect.stringContaining("from onthefly import Trainer"));
});

test("a running session can be paused and stopped, and says why it cannot be resumed", async () => {
  await page.showOne();
  expect(page.find("state-pill").textContent).toBe("running");
  expect(page.isDisabled("pause")).toBe(false);
  expect(page.isDisabled("resume")).toBe(true);
  expect(page.find("resume").title).toBe("The run is not paused.");
});

test("the step and the state follow the events", async () => {
  await page.showOne();
  await page.receive(batch(1, loss(1234)));
  expect(page.find("step").textContent).toBe("1,234");
  await page.receive(
    batch(2, { kind: "state-changed", time: 1, run: "baseline", state: "paused", step: 1234 }),
  );
  expect(page.find("state-pill").dataset.state).toBe("paused");
  expect(page.isDisabled("resume")).toBe(false);
});

test("a pause is on its way until it is answered", async () => {
  await page.showOne();
  await act(() => page.find("pause").click());
  expect(page.transport.sentOf("command-submission")).toHaveLength(1);
  expect(page.find("pause").textContent).toBe("Pausing\u2026");
  await page.receive({
    frame: "command-reply",
    id: "c1",
    session: "s1",
    outcome: { kind: "refused", reason: "The run is in its evaluation." },
  });
  expect(page.find("pause").textContent).toBe("Pause");
  expect(page.root.textContent).toContain("The run is in its evaluation.");
});

test("stopping asks first", async () => {
  await page.showOne();
  await act(() => page.find("stop").click());
  expect(page.transport.sentOf("command-submission")).toHaveLength(0);
  expect(page.root.querySelector("dialog")?.open).toBe(true);
  await act(() => page.find("stop-confirm").click());
  expect(page.transport.sentOf("command-submission")).toMatchObject([{ command: { kind: "stop" } }]);
});

test("a failure shows its reason", async () => {
  const runs = [runSummary({ state: "failed", reason: "CUDA out of memory" })];
  await page.showOne({ session: sessionSummary({ state: "failed", runs, connected: false }) });
  expect(page.root.querySelector(".notice")?.textContent).toBe("Failed: CUDA out of memory");
});

test("a lost connection is visible and blocks the controls", async () => {
  await page.showOne();
  expect(page.find("connection").textContent).toBe("Live");
  await act(() => page.transport.lose());
  expect(page.find("connection").dataset.state).toBe("closed");
  expect(page.root.querySelector("[role=alert]")?.textContent).toContain("connection to the server is lost");
  expect(page.isDisabled("pause")).toBe(true);
});

test("a page without its token says where to get it", async () => {
  await act(() => page.transport.lose("unauthorized"));
  expect(page.find("connection").textContent).toBe("No access");
  expect(page.root.textContent).toContain("otf serve");
});

test("a session is picked from the list", async () => {
  for (const id of ["s1", "s2"]) {
    page.transport.resources.set(`api/sessions/${id}/snapshot`, () =>
      snapshot({ session: sessionSummary({ id, project: id }) }),
    );
  }
  await page.show(sessionSummary(), sessionSummary({ id: "s2", created: 200 }));
  const items = [...page.root.querySelectorAll<HTMLElement>("[data-testid=session-item]")];
  expect(items.map((item) => item.dataset.session)).toEqual(["s2", "s1"]);
  await act(async () => {
    items[1]?.click();
    await Promise.resolve();
  });
  expect(page.root.querySelector("h1")?.textContent).toBe("s1");
  expect(page.dashboard.picked.value).toBe("s1");
});

test("the log shows lines as they come, and saves what is shown", async () => {
  await page.showOne();
  await page.receive(batch(1, logLine("first"), logLine("second", { level: 40 })));
  const lines = [...page.find("log").querySelectorAll<HTMLElement>(".log-line")];
  expect(lines.map((line) => line.querySelector(".log-text")?.textContent)).toEqual([
    "first",
    "second",
  ]);
  expect(lines[1]?.dataset.level).toBe("error");
  await act(() => page.find("log-save").click());
  expect(page.saveFile).toHaveBeenCalledWith("s1.log", expect.stringContaining("second"));
});

async function loseIn(state: RunState): Promise<void> {
  await page.showOne({ session: sessionSummary({ state, runs: [runSummary({ state })] }) });
  await act(() => page.transport.lose());
}

const banner = () => page.root.querySelector("[role=alert]")?.textContent;

test("without the server, what may have changed is shown as last seen", async () => {
  await loseIn("running");
  expect(banner()).toContain("Training goes on without it");
  expect(page.find("state-pill").dataset).toMatchObject({ state: "running", outdated: "true" });
  expect(page.text("state-pill")).toBe("last seen running");
  expect(page.text("session-item")).toContain("last seen running");
});

test("a session that has ended before its server needs nothing but a server to be seen", async () => {
  await loseIn("stopped");
  expect(banner()).toContain("The server is gone. This session has ended, and everything is recorded");
  expect(banner()).toContain("otf serve");
  expect(page.text("state-pill")).toBe("stopped");
  expect(page.find("state-pill").dataset.outdated).toBe("false");
});

test("of a run that was paused nobody claims that training goes on", async () => {
  await loseIn("paused");
  expect(banner()).toContain("paused when it was last seen");
  expect(banner()).not.toContain("goes on");
});

test("runs are named in the list and in the header, one as well as many", async () => {
  await page.showOne();
  expect(page.text("runs")).toBe("baseline");
  expect(page.text("session-item")).toContain("mnist");
  expect(page.text("session-item")).toContain("baseline");
  await page.receive(batch(1, { kind: "run-started", time: 200, run: "fork1", parents: ["baseline"] }));
  expect(page.text("runs")).toBe("fork1, baseline");
  expect(page.text("session-item")).toContain("fork1, baseline");
});

test("the list says that its times are those of the start", async () => {
  await page.showOne({ session: sessionSummary({ created: Date.now() / 1000 - 90 }) });
  expect(page.text("session-item")).toContain("started 1 min ago");
});

test("the time elapsed ticks, pauses included, and ends with the run", async () => {
  vi.useFakeTimers({ now: 130_000 });
  await page.showOne();
  expect(page.text("elapsed")).toBe("30 s");
  const state = { kind: "state-changed", run: "baseline", step: 3 } as const;
  await page.receive(batch(1, { ...state, time: 131, state: "paused" }));
  await act(() => {
    vi.advanceTimersByTime(20_000);
  });
  expect(page.text("elapsed")).toBe("50 s");
  expect(page.find("elapsed").parentElement?.title).toContain("with its pauses");
  await page.receive(batch(2, { ...state, time: 152, state: "finished" }));
  await act(() => {
    vi.advanceTimersByTime(20_000);
  });
  expect(page.text("elapsed")).toBe("52 s");
  vi.useRealTimers();
});

test("the time elapsed is that of the current run, not of its session", async () => {
  const runs = [runSummary({ updated: 900 }), runSummary({ name: "b", created: 1000, updated: 1060, state: "stopped" })];
  await page.showOne({ session: sessionSummary({ state: "stopped", runs }) });
  expect(page.text("elapsed")).toBe("1:00");
});

test("how fast the run is has its unit", async () => {
  const runs = [runSummary({ latest: { throughput: 3589, step_time: 0.01 } })];
  await page.showOne({ session: sessionSummary({ runs }) });
  expect(page.root.querySelector(".facts")?.textContent).toContain("Throughput3,589samples/s");
});

test("a list of lines that comes into sight stands at its newest line", async () => {
  const resized: (() => void)[] = [];
  const observer = vi.fn(function (this: object, callback: () => void) {
    resized.push(callback);
    Object.assign(this, { observe: () => undefined, disconnect: () => undefined });
  });
  vi.stubGlobal("ResizeObserver", observer);
  await page.showOne();
  await page.receive(batch(1, logLine("first")));
  const list = page.find("log");
  Object.defineProperty(list, "scrollHeight", { value: 640 });
  expect(list.scrollTop).toBe(0);
  await act(() => resized.forEach((callback) => callback()));
  expect(list.scrollTop).toBe(640);
  expect(page.root.querySelector(".jump")).toBeNull();
  vi.unstubAllGlobals();
});

test("a new session is offered to who looks at another one", async () => {
  const of = (id: string, created: number) =>
    sessionSummary({ id, created, project: "sweep", runs: [runSummary({ name: `lr-${id}` })] });
  for (const [id, created] of [["s1", 100], ["s2", 200]] as const) {
    page.transport.resources.set(`api/sessions/${id}/snapshot`, () => snapshot({ session: of(id, created) }));
  }
  await page.show(of("s1", 100));
  await act(() => page.dashboard.stay());
  await page.receive({ frame: "session-changed", session: of("s2", 200) });
  expect(page.text("runs")).toBe("lr-s1");
  expect(page.text("newcomer")).toContain("New session: sweep \u00b7 lr-s2");
  await page.click("show-newcomer");
  await act(() => Promise.resolve());
  expect(page.text("runs")).toBe("lr-s2");
  expect(page.has("newcomer")).toBe(false);
});

test("evaluations in a row can all be shown", async () => {
  await page.showOne();
  const evaluation = { kind: "evaluation-finished", run: "baseline", split: "validation" } as const;
  await page.receive(
    batch(
      1,
      { ...evaluation, time: 101, step: 1, samples: 5, values: { loss: 2 } },
      { ...evaluation, time: 102, step: 2, samples: 5, values: { loss: 1 } },
    ),
  );
  const lines = () => page.find("log").querySelectorAll(".log-line").length;
  expect(lines()).toBe(1);
  expect(page.text("log")).toContain("(1 before it folded)");
  await page.click("log-brief");
  expect(lines()).toBe(2);
});

test("what is to be copied fits a narrow page", async () => {
  await page.show();
  const lines = page.root.querySelector(".snippet code")?.textContent.split("\n") ?? [];
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(40);
});
