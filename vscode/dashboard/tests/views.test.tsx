// @vitest-environment happy-dom

import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Host } from "../src/host/host";
import { Dashboard } from "../src/store/dashboard";
import { ChartView } from "../src/store/view";
import { BrandBar } from "../src/views/brand-bar";
import { ConnectionBanner } from "../src/views/connection";
import { AppContext } from "../src/views/context";
import { NoSession } from "../src/views/empty";
import { LogPanel } from "../src/views/log-panel";
import { Notices } from "../src/views/notices";
import { SessionHeader } from "../src/views/session-header";
import { SessionListView } from "../src/views/session-list";
import { useDashboard } from "../src/views/context";
import type { SessionSummary, Snapshot } from "../src/wire/types";
import { FakeTransport } from "./fake-transport";
import { batch, logLine, loss, runSummary, sessionSummary, snapshot } from "./fixtures";

let transport: FakeTransport;
let dashboard: Dashboard;
let root: HTMLElement;
const copy = vi.fn<Host["copy"]>(() => Promise.resolve());
const saveFile = vi.fn<Host["saveFile"]>();
const host: Host = {
  onTheme: () => undefined,
  copy,
  saveFile,
  readSelection: () => null,
  writeSelection: () => undefined,
  onSelection: () => undefined,
};

/** The page without its charts, which need a canvas. */
function Page() {
  const { model } = useDashboard();
  return (
    <>
      <BrandBar isDrawerOpen={false} onToggle={() => undefined} />
      <ConnectionBanner />
      <SessionListView isOpen={false} onClose={() => undefined} />
      {model ? (
        <>
          <SessionHeader model={model} />
          <Notices model={model} />
          <LogPanel model={model} />
        </>
      ) : (
        <NoSession />
      )}
    </>
  );
}

function find(id: string): HTMLElement {
  const element = root.querySelector<HTMLElement>(`[data-testid="${id}"]`);
  if (!element) throw new Error(`there is no ${id} in ${root.innerHTML}`);
  return element;
}

async function show(...sessions: SessionSummary[]): Promise<void> {
  await act(async () => {
    transport.welcome(...sessions);
    await Promise.resolve();
  });
}

async function showOne(change: Partial<Snapshot> = {}): Promise<void> {
  const given = snapshot(change);
  transport.resources.set("api/sessions/s1/snapshot", () => given);
  await show(given.session);
}

function isDisabled(id: string): boolean {
  return find(id).hasAttribute("disabled");
}

const receive = (frame: Parameters<FakeTransport["receive"]>[0]) =>
  act(() => transport.receive(frame));

beforeEach(async () => {
  transport = new FakeTransport();
  dashboard = new Dashboard({
    transport,
    picked: null,
    onPick: () => undefined,
    newId: () => "c1",
    pace: (draw) => draw,
  });
  root = document.createElement("div");
  document.body.append(root);
  await act(() =>
    render(
      <AppContext.Provider value={{ dashboard, host, charts: new ChartView() }}>
        <Page />
      </AppContext.Provider>,
      root,
    ),
  );
  dashboard.open();
});

afterEach(() => {
  render(null, root);
  root.remove();
  vi.clearAllMocks();
});

test("without sessions there is something to copy", async () => {
  await show();
  expect(root.textContent).toContain("No sessions yet");
  await act(() => root.querySelector<HTMLButtonElement>(".snippet button")?.click());
  expect(copy).toHaveBeenCalledWith(expect.stringContaining("from onthefly import Trainer"));
});

test("a running session can be paused and stopped, and says why it cannot be resumed", async () => {
  await showOne();
  expect(find("state-pill").textContent).toBe("running");
  expect(isDisabled("pause")).toBe(false);
  expect(isDisabled("resume")).toBe(true);
  expect(find("resume").title).toBe("The run is not paused.");
});

test("the step and the state follow the events", async () => {
  await showOne();
  await receive(batch(1, loss(1234)));
  expect(find("step").textContent).toBe("1,234");
  await receive(
    batch(2, { kind: "state-changed", time: 1, run: "baseline", state: "paused", step: 1234 }),
  );
  expect(find("state-pill").dataset.state).toBe("paused");
  expect(isDisabled("resume")).toBe(false);
});

test("a pause is on its way until it is answered", async () => {
  await showOne();
  await act(() => find("pause").click());
  expect(transport.sentOf("command-submission")).toHaveLength(1);
  expect(find("pause").textContent).toBe("Pausing\u2026");
  await receive({
    frame: "command-reply",
    id: "c1",
    session: "s1",
    outcome: { kind: "refused", reason: "The run is in its evaluation." },
  });
  expect(find("pause").textContent).toBe("Pause");
  expect(root.textContent).toContain("The run is in its evaluation.");
});

test("stopping asks first", async () => {
  await showOne();
  await act(() => find("stop").click());
  expect(transport.sentOf("command-submission")).toHaveLength(0);
  expect(root.querySelector("dialog")?.open).toBe(true);
  await act(() => find("stop-confirm").click());
  expect(transport.sentOf("command-submission")).toMatchObject([{ command: { kind: "stop" } }]);
});

test("a failure shows its reason", async () => {
  const runs = [runSummary({ state: "failed", reason: "CUDA out of memory" })];
  await showOne({ session: sessionSummary({ state: "failed", runs, connected: false }) });
  expect(root.querySelector(".notice")?.textContent).toBe("Failed: CUDA out of memory");
});

test("a lost connection is visible and blocks the controls", async () => {
  await showOne();
  expect(find("connection").textContent).toBe("Live");
  await act(() => transport.lose());
  expect(find("connection").dataset.state).toBe("closed");
  expect(root.querySelector("[role=alert]")?.textContent).toContain("connection to the server is lost");
  expect(isDisabled("pause")).toBe(true);
});

test("a page without its token says where to get it", async () => {
  await act(() => transport.lose("unauthorized"));
  expect(find("connection").textContent).toBe("No access");
  expect(root.textContent).toContain("otf serve");
});

test("a session is picked from the list", async () => {
  for (const id of ["s1", "s2"]) {
    transport.resources.set(`api/sessions/${id}/snapshot`, () =>
      snapshot({ session: sessionSummary({ id, project: id }) }),
    );
  }
  await show(sessionSummary(), sessionSummary({ id: "s2", created: 200 }));
  const items = [...root.querySelectorAll<HTMLElement>("[data-testid=session-item]")];
  expect(items.map((item) => item.dataset.session)).toEqual(["s2", "s1"]);
  await act(async () => {
    items[1]?.click();
    await Promise.resolve();
  });
  expect(root.querySelector("h1")?.textContent).toBe("s1");
  expect(dashboard.picked.value).toBe("s1");
});

test("the log shows lines as they come, and saves what is shown", async () => {
  await showOne();
  await receive(batch(1, logLine("first"), logLine("second", { level: 40 })));
  const lines = [...find("log").querySelectorAll<HTMLElement>(".log-line")];
  expect(lines.map((line) => line.querySelector(".log-text")?.textContent)).toEqual([
    "first",
    "second",
  ]);
  expect(lines[1]?.dataset.level).toBe("error");
  await act(() => root.querySelector<HTMLButtonElement>(".log-tools button")?.click());
  expect(saveFile).toHaveBeenCalledWith("s1.log", expect.stringContaining("second"));
});
