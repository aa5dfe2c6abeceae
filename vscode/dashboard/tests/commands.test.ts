import { expect, test } from "vitest";
import { CommandTracker, type CommandKind } from "../src/store/commands";
import { obstacle, type ControlsInput } from "../src/store/controls";
import { commandChanged } from "./fixtures";

const applied = { kind: "applied", step: 7 } as const;

test("a command is pending until its reply", () => {
  const tracker = new CommandTracker();
  expect(tracker.submit("c1", "s1", "pause")).toEqual({
    frame: "command-submission",
    id: "c1",
    session: "s1",
    command: { kind: "pause" },
  });
  expect(tracker.pending("s1")).toEqual(new Set(["pause"]));
  expect(tracker.pending("s2")).toEqual(new Set());
  tracker.reply({ frame: "command-reply", id: "c1", session: "s1", outcome: applied });
  expect(tracker.pending("s1")).toEqual(new Set());
  expect(tracker.failures("s1")).toEqual([]);
});

test("a refusal is kept with its reason until it is dismissed", () => {
  const tracker = new CommandTracker();
  tracker.submit("c1", "s1", "resume");
  tracker.reply({
    frame: "command-reply",
    id: "c1",
    session: "s1",
    outcome: { kind: "refused", reason: "It runs already." },
  });
  expect(tracker.failures("s1")).toMatchObject([{ status: "refused", text: "It runs already." }]);
  tracker.dismiss("c1");
  expect(tracker.failures("s1")).toEqual([]);
});

test("the next command clears the last refusal", () => {
  const tracker = new CommandTracker();
  tracker.submit("c1", "s1", "pause");
  tracker.changed(commandChanged({ status: "refused", outcome: { kind: "refused", reason: "no" } }));
  tracker.submit("c2", "s1", "pause");
  expect(tracker.failures("s1")).toEqual([]);
});

test("a lost connection leaves a command unconfirmed, and the record settles it", () => {
  const tracker = new CommandTracker();
  tracker.submit("c1", "s1", "pause");
  tracker.connectionLost();
  expect(tracker.pending("s1")).toEqual(new Set());
  expect(tracker.failures("s1")[0]?.text).toContain("connection was lost");
  tracker.changed(commandChanged({ status: "received", outcome: null }));
  expect(tracker.failures("s1")).toHaveLength(1);
  tracker.changed(commandChanged());
  expect(tracker.failures("s1")).toEqual([]);
});

test("answers to other people's commands are not ours", () => {
  const tracker = new CommandTracker();
  tracker.changed(commandChanged({ id: "theirs" }));
  tracker.reply({ frame: "command-reply", id: "theirs", session: "s1", outcome: applied });
  expect(tracker.failures("s1")).toEqual([]);
});

const running: ControlsInput = {
  state: "running",
  online: true,
  connected: true,
  pending: new Set(),
};

test.each<[CommandKind, Partial<ControlsInput>, string | null]>([
  ["pause", {}, null],
  ["stop", {}, null],
  ["resume", {}, "The run is not paused."],
  ["resume", { state: "paused" }, null],
  ["pause", { state: "paused" }, "The run is paused already."],
  ["stop", { state: "paused" }, null],
  ["stop", { state: "starting" }, null],
  ["pause", { state: "finished" }, "The run has finished."],
  ["stop", { state: "lost" }, "The training process is gone."],
  ["pause", { connected: false }, "The training process is not connected to this server."],
  ["pause", { online: false }, "This page is not connected to the server."],
  ["pause", { pending: new Set(["pause"]) }, "Waiting for the answer to \u201cpause\u201d."],
  ["stop", { pending: new Set(["pause"]) }, null],
  ["pause", { pending: new Set(["stop"]) }, "The run is being stopped."],
])("%s with %j: %s", (kind, change, expected) => {
  expect(obstacle(kind, { ...running, ...change })).toBe(expected);
});
