import { beforeEach, expect, test, vi } from "vitest";
import { Dashboard } from "../src/store/dashboard";
import { RequestError } from "../src/transport/transport";
import type { Snapshot } from "../src/wire/types";
import { FakeTransport } from "./fake-transport";
import { batch, commandChanged, logLine, loss, sessionSummary, snapshot } from "./fixtures";

let transport: FakeTransport;
let dashboard: Dashboard;
const onPick = vi.fn();

function open(picked: string | null = null): void {
  transport = new FakeTransport();
  dashboard = new Dashboard({
    transport,
    picked,
    onPick,
    newId: () => `c${transport.sent.length}`,
    pace: (draw) => draw,
  });
  dashboard.open();
}

function answer(id: string, given: Snapshot | (() => Snapshot)): void {
  transport.resources.set(`api/sessions/${id}/snapshot`, () =>
    typeof given === "function" ? given() : given,
  );
}

/** Lets what was promised come. */
const settle = () => vi.waitFor(() => Promise.resolve());

function counts(): number | undefined {
  return dashboard.model?.metrics.runs("loss").get("baseline")?.count;
}

/** The snapshots that were asked for. */
const snapshots = () => transport.requested.filter((path) => path.includes("/snapshot"));

beforeEach(() => {
  onPick.mockClear();
  open();
});

test("the newest session is read and subscribed to after its snapshot", async () => {
  answer("s2", snapshot({ seq: 8, session: sessionSummary({ id: "s2", last_seq: 8 }) }));
  transport.welcome(sessionSummary(), sessionSummary({ id: "s2", created: 200 }));
  await settle();
  expect(dashboard.model?.id).toBe("s2");
  expect(transport.sent).toEqual([{ frame: "subscribe", session: "s2", after: 8 }]);
  expect(dashboard.connection.value.kind).toBe("open");
});

test("batches reach the model", async () => {
  answer("s1", snapshot());
  transport.welcome(sessionSummary());
  await settle();
  transport.receive(batch(1, loss(1), loss(2)));
  expect(counts()).toBe(2);
});

test("after a reconnection the events go on where they ended, none twice", async () => {
  answer("s1", snapshot());
  transport.welcome(sessionSummary());
  await settle();
  transport.receive(batch(1, loss(1), loss(2)));
  transport.lose();
  expect(dashboard.connection.value).toEqual({ kind: "closed", reason: "unreachable" });
  transport.welcome(sessionSummary({ last_seq: 4 }));
  expect(transport.sentOf("subscribe").at(-1)).toMatchObject({ after: 2 });
  expect(snapshots()).toHaveLength(1);
  transport.receive(batch(2, loss(2), loss(3), loss(4)));
  expect(counts()).toBe(4);
});

test("a gap leads to a new snapshot, and what comes meanwhile is not counted twice", async () => {
  let seq = 0;
  answer("s1", () =>
    snapshot({
      seq,
      series: [{ run: "baseline", name: "loss", count: seq, steps: [seq], values: [1] }],
    }),
  );
  transport.welcome(sessionSummary());
  await settle();
  seq = 6;
  transport.receive(batch(5, loss(5), loss(6)));
  transport.receive(batch(7, loss(7)));
  await settle();
  expect(transport.sentOf("unsubscribe")).toHaveLength(1);
  expect(transport.sentOf("subscribe").at(-1)).toMatchObject({ after: 6 });
  transport.receive(batch(7, loss(7)));
  expect(counts()).toBe(7);
});

test("falling behind leads to a new snapshot and a new subscription", async () => {
  answer("s1", snapshot({ seq: 3 }));
  transport.welcome(sessionSummary());
  await settle();
  transport.receive({ frame: "behind", session: "s1" });
  await settle();
  expect(snapshots()).toHaveLength(2);
  expect(transport.sentOf("subscribe")).toHaveLength(2);
});

test("a snapshot that fails is tried again, and says why meanwhile", async () => {
  vi.useFakeTimers();
  let isBroken = true;
  answer("s1", () => {
    if (isBroken) throw new RequestError(500, "The store is being moved.");
    return snapshot();
  });
  transport.welcome(sessionSummary());
  await vi.advanceTimersByTimeAsync(0);
  expect(dashboard.problem).toBe("The store is being moved.");
  isBroken = false;
  await vi.advanceTimersByTimeAsync(1000);
  expect(dashboard.problem).toBeNull();
  expect(dashboard.model?.id).toBe("s1");
  vi.useRealTimers();
});

test("the newest session is followed until one is picked", async () => {
  for (const id of ["s1", "s2", "s3"]) {
    answer(id, snapshot({ session: sessionSummary({ id }) }));
  }
  transport.welcome(sessionSummary());
  transport.receive({
    frame: "session-changed",
    session: sessionSummary({ id: "s2", created: 200 }),
  });
  await settle();
  expect(dashboard.model?.id).toBe("s2");
  dashboard.pick("s1");
  transport.receive({
    frame: "session-changed",
    session: sessionSummary({ id: "s3", created: 300 }),
  });
  await settle();
  expect(dashboard.model?.id).toBe("s1");
  expect(onPick).toHaveBeenLastCalledWith("s1");
  dashboard.pick(null);
  await settle();
  expect(dashboard.model?.id).toBe("s3");
});

test("a session picked before a reload is shown again", async () => {
  open("s1");
  answer("s1", snapshot());
  transport.welcome(sessionSummary(), sessionSummary({ id: "s2", created: 200 }));
  await settle();
  expect(dashboard.model?.id).toBe("s1");
});

test("a snapshot of a session that is no longer shown is ignored", async () => {
  answer("s1", snapshot());
  answer("s2", snapshot({ session: sessionSummary({ id: "s2" }) }));
  transport.welcome(sessionSummary(), sessionSummary({ id: "s2", created: 50 }));
  dashboard.pick("s2");
  await settle();
  expect(dashboard.model?.id).toBe("s2");
  expect(transport.sentOf("subscribe").map((frame) => frame.session)).toEqual(["s2"]);
});

test("when the session shown is gone, the newest that is left is shown", async () => {
  answer("s1", snapshot());
  answer("s2", snapshot({ session: sessionSummary({ id: "s2" }) }));
  transport.welcome(sessionSummary(), sessionSummary({ id: "s2", created: 200 }));
  await settle();
  transport.receive({ frame: "session-gone", session: "s2" });
  await settle();
  expect(dashboard.model?.id).toBe("s1");
  expect(dashboard.sessions.value.map((session) => session.id)).toEqual(["s1"]);
});

test("a command goes out once and is settled by its reply", async () => {
  answer("s1", snapshot());
  transport.welcome(sessionSummary());
  await settle();
  dashboard.submit("s1", { kind: "pause" });
  const [sent] = transport.sentOf("command-submission");
  expect(sent).toMatchObject({ session: "s1", command: { kind: "pause" } });
  expect(dashboard.commands.pending("s1").has("pause")).toBe(true);
  transport.receive({
    frame: "command-reply",
    id: sent?.id ?? "",
    session: "s1",
    outcome: { kind: "applied", step: 1 },
  });
  expect(dashboard.commands.pending("s1").size).toBe(0);
});

test("a command whose reply was lost is settled by the events after the reconnection", async () => {
  answer("s1", snapshot());
  transport.welcome(sessionSummary());
  await settle();
  dashboard.submit("s1", { kind: "pause" });
  const id = transport.sentOf("command-submission")[0]?.id ?? "";
  transport.lose();
  expect(dashboard.commands.failures("s1")).toHaveLength(1);
  transport.welcome(sessionSummary());
  transport.receive(batch(1, commandChanged({ id })));
  expect(dashboard.commands.failures("s1")).toEqual([]);
});

test("a command without a connection is not pretended to be on its way", () => {
  dashboard.submit("s1", { kind: "pause" });
  expect(dashboard.commands.pending("s1").size).toBe(0);
  expect(dashboard.commands.failures("s1")).toHaveLength(1);
});

test("a refusal by the server stays on show while the transport keeps trying", () => {
  transport.receive({ frame: "refusal", reason: "Too old.", remedy: "Reload." });
  transport.lose();
  expect(dashboard.connection.value).toEqual({
    kind: "refused",
    reason: "Too old.",
    remedy: "Reload.",
  });
});

test("another protocol is noticed", () => {
  transport.receive({
    frame: "dashboard-welcome",
    server_version: "9",
    protocol: 9,
    home: "",
    sessions: [],
  });
  expect(dashboard.foreignProtocol).toBe(9);
  expect(dashboard.isWelcomed).toBe(true);
});

test("older lines of the log are paged in before the oldest one held", async () => {
  answer("s1", snapshot({ seq: 9, log: { entries: [{ seq: 9, line: logLine("b") }], more: true } }));
  transport.resources.set("api/sessions/s1/logs", () => ({
    entries: [{ seq: 4, line: logLine("a") }],
    more: false,
  }));
  transport.welcome(sessionSummary({ last_seq: 9 }));
  await settle();
  const { model } = dashboard;
  if (!model) throw new Error("there is no model");
  await dashboard.loadOlderLog(model);
  expect(transport.requested.at(-1)).toBe("api/sessions/s1/logs?before=9&limit=1000");
  expect(model.log.items().map((item) => item.text)).toEqual(["a", "b"]);
});

test("detail is asked for by name, runs and range", async () => {
  transport.resources.set("api/sessions/a%20b/metrics", () => []);
  await dashboard.loadDetail({
    session: "a b",
    name: "loss",
    runs: ["baseline", "fork1"],
    from: 3,
    to: 9,
    points: 500,
  });
  expect(transport.requested).toEqual([
    "api/sessions/a%20b/metrics?name=loss&points=500&from=3&to=9&run=baseline&run=fork1",
  ]);
});

test("what the server says of commands reaches those who look", async () => {
  answer("s1", snapshot());
  transport.welcome(sessionSummary());
  await settle();
  const request = { id: "x", author: "otf ctl", command: { kind: "test" } as const };
  transport.receive({ frame: "command-queued", session: "s1", request });
  transport.receive({ frame: "command-progress", session: "s1", id: "x", done: 1, total: 4, unit: "batches" });
  expect(dashboard.commands.running("s1")).toMatchObject([{ author: "otf ctl", progress: { done: 1 } }]);
  transport.receive(batch(1, commandChanged({ id: "x", command: { kind: "test" } })));
  expect(dashboard.commands.running("s1")).toEqual([]);
  expect(dashboard.commands.all("s1")).toMatchObject([{ id: "x", stage: "applied" }]);
});

test("a snapshot brings the record, and closes what its trainer can no longer answer", async () => {
  const open = commandChanged({ id: "a", status: "received", outcome: null });
  const session = sessionSummary({ state: "lost", connected: false });
  answer("s1", snapshot({ session, commands: [open, commandChanged({ id: "b" })] }));
  transport.welcome(session);
  await settle();
  const stages = dashboard.commands.all("s1").map(({ id, stage }) => [id, stage]);
  expect(stages).toEqual([["a", "unanswered"], ["b", "applied"]]);
});

test("another process of the session does not answer for the last one", async () => {
  answer("s1", snapshot());
  transport.welcome(sessionSummary());
  await settle();
  transport.receive(batch(1, commandChanged({ id: "a", status: "received", outcome: null })));
  transport.receive(
    batch(2, { kind: "process-started", time: 1, pid: 1, host: "", argv: [], python: "", versions: {} }),
  );
  expect(dashboard.commands.get("s1", "a")?.stage).toBe("unanswered");
});

async function lookAtFirst(): Promise<void> {
  for (const id of ["s1", "s2", "s3"]) answer(id, snapshot({ session: sessionSummary({ id }) }));
  transport.welcome(sessionSummary());
  await settle();
  dashboard.stay();
}

function comes(id: string, created: number): void {
  transport.receive({ frame: "session-changed", session: sessionSummary({ id, created }) });
}

test("a new session does not replace the one that is looked at, and is told of", async () => {
  await lookAtFirst();
  expect(dashboard.newcomer).toBeUndefined();
  comes("s2", 200);
  comes("s3", 300);
  comes("s2", 200);
  await settle();
  expect(dashboard.model?.id).toBe("s1");
  expect(dashboard.newcomer?.id).toBe("s3");
  expect(onPick).not.toHaveBeenCalled();
  dashboard.pick(null);
  await settle();
  expect(dashboard.model?.id).toBe("s3");
  expect(dashboard.newcomer).toBeUndefined();
  expect(dashboard.isFollowingNewest).toBe(true);
});

test("a session that came while the connection was lost is told of, and an older one is not", async () => {
  await lookAtFirst();
  transport.lose();
  transport.welcome(
    sessionSummary(),
    sessionSummary({ id: "s2", created: 200 }),
    sessionSummary({ id: "s3", created: 50 }),
  );
  expect(dashboard.newcomer?.id).toBe("s2");
  dashboard.dismissNewcomer();
  expect(dashboard.newcomer).toBeUndefined();
  expect(dashboard.model?.id).toBe("s1");
});

test("when the session that is looked at is gone, the newest is followed again", async () => {
  await lookAtFirst();
  comes("s2", 200);
  transport.receive({ frame: "session-gone", session: "s1" });
  await settle();
  expect(dashboard.model?.id).toBe("s2");
  expect(dashboard.isFollowingNewest).toBe(true);
  expect(dashboard.newcomer).toBeUndefined();
});

test("a state is out of date without the server, unless it is the last one", async () => {
  answer("s1", snapshot());
  transport.welcome(sessionSummary());
  expect(dashboard.isOutdated("running")).toBe(false);
  transport.lose();
  await settle();
  expect(dashboard.isOutdated("running")).toBe(true);
  expect(dashboard.isOutdated("paused")).toBe(true);
  expect(dashboard.isOutdated("stopped")).toBe(false);
});
