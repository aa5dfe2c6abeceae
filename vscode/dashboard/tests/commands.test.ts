import { expect, test } from "vitest";
import { CommandTracker, type CommandKind } from "../src/store/commands";
import { blockade, obstacle, type ControlsInput } from "../src/store/controls";
import type { Applied, Command, CommandQueued, CommandReply } from "../src/wire/types";
import { commandChanged } from "./fixtures";

const applied: Applied = { kind: "applied", step: 7 };
const pause: Command = { kind: "pause" };

function reply(id: string, outcome: CommandReply["outcome"] = applied): CommandReply {
  return { frame: "command-reply", id, session: "s1", outcome };
}

function queued(id: string, command: Command, author = "otf ctl"): CommandQueued {
  return { frame: "command-queued", session: "s1", request: { id, author, command } };
}

test("a command is pending until its reply", () => {
  const tracker = new CommandTracker();
  expect(tracker.submit("c1", "s1", pause)).toEqual({
    frame: "command-submission",
    id: "c1",
    session: "s1",
    command: { kind: "pause" },
  });
  expect(tracker.pending("s1")).toEqual(new Set(["pause"]));
  expect(tracker.pending("s2")).toEqual(new Set());
  tracker.reply(reply("c1"));
  expect(tracker.pending("s1")).toEqual(new Set());
  expect(tracker.failures("s1")).toEqual([]);
});

test("a command goes through its stages, and never back", () => {
  const tracker = new CommandTracker();
  const stage = () => tracker.get("s1", "c1")?.stage;
  tracker.submit("c1", "s1", { kind: "test" });
  expect(stage()).toBe("sent");
  tracker.queued(queued("c1", { kind: "test" }, "dashboard"));
  expect(stage()).toBe("queued");
  tracker.progressed({ frame: "command-progress", session: "s1", id: "c1", done: 2, total: 8, unit: "batches" });
  expect(stage()).toBe("received");
  expect(tracker.running("s1")[0]?.progress).toEqual({ done: 2, total: 8, unit: "batches" });
  tracker.reply(reply("c1"));
  tracker.changed("s1", commandChanged({ status: "received", outcome: null }));
  tracker.progressed({ frame: "command-progress", session: "s1", id: "c1", done: 9, total: 9, unit: "batches" });
  expect(stage()).toBe("applied");
  expect(tracker.get("s1", "c1")?.progress).toBeNull();
  expect(tracker.running("s1")).toEqual([]);
});

test("commands of others are followed, and block nothing here", () => {
  const tracker = new CommandTracker();
  tracker.queued(queued("c9", { kind: "pause", release: true }));
  expect(tracker.news("s1")).toMatchObject({ author: "otf ctl", stage: "queued", isOwn: false });
  expect(tracker.pending("s1")).toEqual(new Set());
  tracker.changed("s1", commandChanged({ id: "c9", author: "otf ctl", status: "refused", outcome: { kind: "refused", reason: "no" } }));
  expect(tracker.all("s1")).toMatchObject([{ id: "c9", stage: "refused", step: 1 }]);
  expect(tracker.failures("s1")).toEqual([]);
});

test("the record lists every command once, the newest first", () => {
  const tracker = new CommandTracker();
  tracker.recorded("s1", [
    commandChanged({ id: "a", time: 10, status: "received", outcome: null }),
    commandChanged({ id: "a", time: 11, step: 8, phase: "train" }),
    commandChanged({ id: "b", time: 20, author: "http" }),
  ]);
  expect(tracker.all("s1")).toMatchObject([
    { id: "b", author: "http", stage: "applied" },
    { id: "a", time: 10, step: 8, phase: "train", stage: "applied" },
  ]);
  expect(tracker.news("s1")).toBeUndefined();
});

test("a snapshot's open test is shown as running once it makes progress", () => {
  const tracker = new CommandTracker();
  const command: Command = { kind: "test" };
  tracker.recorded("s1", [commandChanged({ id: "a", command, status: "received", outcome: null })]);
  expect(tracker.running("s1")).toEqual([]);
  tracker.progressed({ frame: "command-progress", session: "s1", id: "a", done: 1, total: 2, unit: "batches" });
  expect(tracker.running("s1")).toHaveLength(1);
});

test("what a process leaves unanswered is so called", () => {
  const tracker = new CommandTracker();
  tracker.queued(queued("theirs", pause));
  tracker.submit("ours", "s1", pause);
  tracker.trainerLost("s1");
  expect(tracker.get("s1", "theirs")?.stage).toBe("unanswered");
  expect(tracker.get("s1", "ours")?.stage).toBe("unconfirmed");
  tracker.reply(reply("ours", { kind: "refused", reason: "The trainer's connection ended." }));
  expect(tracker.failures("s1")).toMatchObject([{ id: "ours", stage: "refused" }]);
});

test("a refusal is kept with its reason until it is dismissed", () => {
  const tracker = new CommandTracker();
  tracker.submit("c1", "s1", { kind: "resume" });
  tracker.reply(reply("c1", { kind: "refused", reason: "It runs already." }));
  expect(tracker.failures("s1")).toMatchObject([
    { stage: "refused", outcome: { reason: "It runs already." } },
  ]);
  tracker.dismiss("s1", "c1");
  expect(tracker.failures("s1")).toEqual([]);
});

test("the next command clears the last refusal", () => {
  const tracker = new CommandTracker();
  tracker.submit("c1", "s1", pause);
  tracker.changed("s1", commandChanged({ status: "refused", outcome: { kind: "refused", reason: "no" } }));
  tracker.submit("c2", "s1", pause);
  expect(tracker.failures("s1")).toEqual([]);
});

test("a proof waits to be read, even when the next command is given", () => {
  const tracker = new CommandTracker();
  const result = { kind: "proof", steps: 5, exact: false, difference: "the sampler" } as const;
  tracker.submit("c1", "s1", { kind: "prove", steps: 5 });
  tracker.reply(reply("c1", { ...applied, result }));
  expect(tracker.news("s1")).toBeUndefined();
  expect(tracker.results("s1")).toHaveLength(1);
  tracker.submit("c2", "s1", pause);
  expect(tracker.results("s1")).toHaveLength(1);
  tracker.dismiss("s1", "c1");
  expect(tracker.results("s1")).toEqual([]);
});

test("a lost connection leaves a command unconfirmed, and the record settles it", () => {
  const tracker = new CommandTracker();
  tracker.submit("c1", "s1", pause);
  tracker.connectionLost();
  expect(tracker.pending("s1")).toEqual(new Set());
  expect(tracker.failures("s1")).toMatchObject([{ stage: "unconfirmed" }]);
  tracker.changed("s1", commandChanged());
  expect(tracker.failures("s1")).toEqual([]);
});

test("a command that was received before the connection was lost goes on", () => {
  const tracker = new CommandTracker();
  tracker.submit("c1", "s1", pause);
  tracker.connectionLost();
  tracker.changed("s1", commandChanged({ status: "received", outcome: null }));
  expect(tracker.pending("s1")).toEqual(new Set(["pause"]));
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
  ["resume", { state: "starting" }, "The run is not paused."],
  ["pause", { state: "paused" }, "The run is paused already."],
  ["pause", { state: "starting" }, "The run has not started yet."],
  ["save-checkpoint", { state: "starting" }, "The run has not started yet."],
  ["note", { state: "starting" }, null],
  ["stop", { state: "paused" }, null],
  ["stop", { state: "starting" }, null],
  ["pause", { state: "finished" }, "The run has finished."],
  ["stop", { state: "lost" }, "The training process is gone."],
  ["pause", { connected: false }, "The training process is not connected to this server."],
  ["pause", { online: false }, "This page is not connected to the server."],
  ["pause", { pending: new Set(["pause"]) }, "Waiting for the answer to \u201cpause\u201d."],
  ["stop", { pending: new Set(["pause"]) }, null],
  ["pause", { pending: new Set(["stop"]) }, "The run is being stopped."],
  ["cancel", { pending: new Set(["stop"]) }, null],
  ["test", { running: "prove" }, "\u201cprove\u201d is under way; wait for its end, or cancel it."],
  ["pause", { running: "prove" }, null],
])("%s with %j: %s", (kind, change, expected) => {
  expect(obstacle(kind, { ...running, ...change })).toBe(expected);
});

test("what ends everything is told apart from what ends one command", () => {
  expect(blockade({ ...running, pending: new Set(["stop"]) })).toBeNull();
  expect(blockade({ ...running, state: "failed" })).toBe("The run has failed.");
});
