// @vitest-environment happy-dom

import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test } from "vitest";
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
  await act(() => page.root.querySelector<HTMLButtonElement>(".log-tools button")?.click());
  expect(page.saveFile).toHaveBeenCalledWith("s1.log", expect.stringContaining("second"));
});
