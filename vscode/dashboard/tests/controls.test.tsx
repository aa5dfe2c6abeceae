// @vitest-environment happy-dom

import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Command, Outcome, SessionState } from "../src/wire/types";
import {
  batch,
  checkpointSaved,
  commandChanged,
  hyperparameters,
  limits,
  runSummary,
  sessionSummary,
} from "./fixtures";
import { Page } from "./page";

let page: Page;

beforeEach(async () => {
  page = await Page.open();
});

afterEach(() => {
  page.close();
  vi.useRealTimers();
});

async function showIn(state: SessionState): Promise<void> {
  const runs = [runSummary({ state: state === "lost" ? "running" : state, step: 40 })];
  await page.showOne({ session: sessionSummary({ state, runs }) });
}

const answer = (id: string, outcome: Outcome) =>
  page.receive({ frame: "command-reply", id, session: "s1", outcome });

test("a menu opens, and closes by Escape, by a choice, and by a click elsewhere", async () => {
  await page.showOne();
  const isOpen = () => page.has("test");
  expect(isOpen()).toBe(false);
  await page.click("more");
  expect(page.find("more").getAttribute("aria-expanded")).toBe("true");
  await act(() => {
    page.find("test").focus();
    const escape = new KeyboardEvent("keydown", { key: "Escape", bubbles: true });
    page.find("test").dispatchEvent(escape);
  });
  expect(isOpen()).toBe(false);
  expect(document.activeElement).toBe(page.find("more"));
  await page.click("more", "test");
  expect(isOpen()).toBe(false);
  await page.click("more");
  await act(() => {
    document.body.dispatchEvent(new Event("pointerdown", { bubbles: true }));
  });
  expect(isOpen()).toBe(false);
});

test("arrow keys move through a menu", async () => {
  await page.showOne();
  await page.click("more");
  await act(() => page.find("more").focus());
  const press = (key: string) =>
    act(() => {
      document.activeElement?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    });
  await press("ArrowDown");
  expect(document.activeElement).toBe(page.find("hyperparameters"));
  await press("ArrowUp");
  await press("ArrowUp");
  expect(document.activeElement).toBe(page.find("prove"));
});

test.each<[string[], Command]>([
  [["pause-menu", "pause-release"], { kind: "pause", release: true }],
  [["more", "test"], { kind: "test" }],
  [["more", "validate"], { kind: "validate" }],
  [["run-for", "run-for-confirm"], { kind: "run-for", steps: 100 }],
  [["more", "extend", "extend-confirm"], { kind: "extend", epochs: 1 }],
  [["more", "save-checkpoint", "save-checkpoint-confirm"], { kind: "save-checkpoint", pin: false }],
  [["more", "reset", "reset-confirm"], { kind: "reset" }],
  [["more", "prove", "prove-confirm"], { kind: "prove", steps: 10 }],
  [["stop", "stop-confirm"], { kind: "stop" }],
])("%j asks for %j", async (clicks, command) => {
  await page.showOne();
  const last = clicks.pop() ?? "";
  await page.click(...clicks);
  expect(page.asked()).toEqual([]);
  await page.click(last);
  expect(page.asked()).toEqual([command]);
  expect(page.root.querySelector("dialog")).toBeNull();
});

test("running for a while takes steps or epochs, and says what is no number of them", async () => {
  await page.showOne();
  await page.click("run-for");
  await page.type("run-for-amount", "1.5");
  await page.click("run-for-confirm");
  expect(page.text("run-for-problem")).toBe("Type a whole number of at least 1.");
  expect(page.asked()).toEqual([]);
  await page.type("run-for-amount", "3");
  await page.type("run-for-unit", "epochs");
  await page.click("run-for-confirm");
  expect(page.asked()).toEqual([{ kind: "run-for", epochs: 3 }]);
});

test("a checkpoint is saved under a name, and pinned", async () => {
  await page.showOne();
  await page.click("more", "save-checkpoint");
  await page.type("save-checkpoint-name", " before dropout ");
  await page.click("save-checkpoint-pin", "save-checkpoint-confirm");
  expect(page.asked()).toEqual([{ kind: "save-checkpoint", name: "before dropout", pin: true }]);
});

test("a note needs a text, and takes a step", async () => {
  await page.showOne();
  await page.click("more", "note", "note-confirm");
  expect(page.text("note-problem")).toBe("Type what is to be noted.");
  await page.type("note-text", "plateau");
  await page.type("note-step", "12");
  await page.click("note-confirm");
  expect(page.asked()).toEqual([{ kind: "note", text: "plateau", step: 12 }]);
});

test("checkpoints are listed, the newest first, and going back says what it undoes", async () => {
  const runs = [runSummary({ step: 40 }), runSummary({ name: "fork1", step: 25 })];
  await page.showOne({
    session: sessionSummary({ runs }),
    checkpoints: [
      checkpointSaved({ step: 0, label: "initial", pinned: true }),
      checkpointSaved({ step: 20, run: "fork1" }),
    ],
  });
  await page.receive(batch(1, checkpointSaved({ step: 30, label: "best" })));
  await page.click("more", "checkpoints");
  expect(page.all("checkpoint").map((row) => row.dataset.checkpoint)).toEqual([
    "baseline@30",
    "fork1@20",
    "baseline@0",
  ]);
  expect(page.all("checkpoint")[2]?.textContent).toContain("pinned");
  await act(() => page.all("checkpoint-load")[0]?.click());
  expect(page.text("checkpoints-dialog")).toContain("10 steps are undone");
  expect(page.asked()).toEqual([]);
  await page.click("load-checkpoint-confirm");
  expect(page.asked()).toEqual([
    { kind: "load-checkpoint", checkpoint: "baseline@30", as_new_run: false },
  ]);
});

test("a checkpoint is loaded as a new run with a name of its own", async () => {
  await page.showOne({ checkpoints: [checkpointSaved()] });
  await page.click("more", "checkpoints", "checkpoint-load", "load-as-new-run");
  await page.type("load-run", "second");
  await page.click("load-checkpoint-confirm");
  expect(page.asked()).toEqual([
    { kind: "load-checkpoint", checkpoint: "baseline@10", as_new_run: true, run: "second" },
  ]);
});

test("hyperparameters are shown with their rule and bounds, checked, and changed together", async () => {
  await page.showOne({ hyperparameters: [hyperparameters()] });
  await page.click("more", "hyperparameters");
  expect(page.text("lr-rule")).toContain("StepLR sets it.");
  expect(page.text("hyperparameters-dialog")).toContain("0 to 1");
  const [lr, momentum] = page.all("hyperparameter-input");
  if (!lr || !momentum) throw new Error("there are no inputs");
  await page.typeInto(lr, "0.05");
  await page.typeInto(momentum, "1.5");
  await page.click("hyperparameters-confirm");
  expect(page.text("hyperparameters-dialog")).toContain("momentum is at most 1.");
  expect(page.asked()).toEqual([]);
  await page.typeInto(momentum, "0.8");
  await page.click("hold-lr", "hyperparameters-confirm");
  expect(page.asked()).toEqual([
    { kind: "set-hyperparameters", values: { lr: 0.05, momentum: 0.8 }, hold: true },
  ]);
});

test("what was requested and what was applied is shown where it was asked for", async () => {
  await page.showOne({ hyperparameters: [hyperparameters()] });
  await page.click("more", "hyperparameters");
  const [lr] = page.all("hyperparameter-input");
  if (lr) await page.typeInto(lr, "0.07");
  await page.click("hyperparameters-confirm");
  expect(page.text("hyperparameters-outcome")).toContain("on its way");
  const changes = [{ name: "lr", before: 0.1, requested: 0.07, applied: 0.05 }];
  await answer("c1", { kind: "applied", step: 9, result: { kind: "hyperparameters-set", changes } });
  expect(page.text("hyperparameters-outcome")).toContain("applied at step 9");
  expect(page.text("hyperparameters-outcome")).toContain("was 0.1, asked for 0.07, is 0.05");
});

test("the learning rate is the one measured last, unless it was declared since", async () => {
  const runs = [runSummary({ step: 40, latest: { lr: 0.0625 } })];
  await page.showOne({ session: sessionSummary({ runs }), hyperparameters: [hyperparameters()] });
  await page.click("more", "hyperparameters");
  const now = () => page.all("hyperparameter-value")[0]?.textContent;
  expect(now()).toBe("0.0625");
  const values = [{ name: "lr", value: 0.5, group: 0 }];
  await page.receive(batch(1, hyperparameters({ step: 40, values })));
  expect(now()).toBe("0.5");
});

test("nothing can be held where the learning rate has no scheduler", async () => {
  await page.showOne({ hyperparameters: [hyperparameters({ lr_owner: "constant" })] });
  await page.click("more", "hyperparameters");
  expect(page.has("hold-lr")).toBe(false);
});

test("what is unavailable says why, and what can be read can still be read", async () => {
  await showIn("finished");
  for (const id of ["pause", "resume", "run-for", "stop"]) {
    expect(page.isDisabled(id)).toBe(true);
    expect(page.find(id).title).toBe("The run has finished.");
  }
  await page.click("more");
  for (const id of ["extend", "note", "save-checkpoint", "reset", "test", "validate", "prove"]) {
    expect(page.isDisabled(id)).toBe(true);
    expect(page.text(id)).toContain("The run has finished.");
  }
  await page.click("checkpoints");
  expect(page.text("checkpoints-dialog")).toContain("No checkpoint is kept yet.");
});

test("a paused run can still give its device's memory back", async () => {
  await showIn("paused");
  expect(page.isDisabled("pause")).toBe(true);
  await page.click("pause-menu", "pause-release");
  expect(page.asked()).toEqual([{ kind: "pause", release: true }]);
});

test("a command is queued, received, applied, and then no longer told of", async () => {
  vi.useFakeTimers();
  await page.showOne();
  const stage = () => page.find("command-status").dataset.stage;
  await page.click("more", "save-checkpoint", "save-checkpoint-confirm");
  expect(page.text("command-status")).toBe("Save checkpoint on its way");
  const command: Command = { kind: "save-checkpoint", pin: false };
  const request = { id: "c1", author: "dashboard", command };
  await page.receive({ frame: "command-queued", session: "s1", request });
  expect(stage()).toBe("queued");
  await page.receive(batch(1, commandChanged({ command, status: "received", outcome: null })));
  expect(stage()).toBe("received");
  await answer("c1", { kind: "applied", step: 8, message: "Saved." });
  expect(page.text("command-status")).toBe("Save checkpoint applied at step 8: Saved.");
  await act(() => {
    vi.advanceTimersByTime(8000);
  });
  expect(page.text("command-status")).toBe("");
});

test("what others ask for is told with who asked", async () => {
  await page.showOne();
  const request = { id: "x", author: "otf ctl", command: { kind: "pause" } as const };
  await page.receive({ frame: "command-queued", session: "s1", request });
  expect(page.text("command-status")).toBe("Pause by otf ctl queued");
  expect(page.isDisabled("pause")).toBe(false);
});

test("a test shows how far it is, blocks others like it, and can be cancelled", async () => {
  await page.showOne();
  await page.click("more", "test");
  const progress = { frame: "command-progress", session: "s1", id: "c1", unit: "batches" } as const;
  await page.receive({ ...progress, done: 3, total: 12 });
  expect(page.text("running")).toContain("3 of 12 batches");
  expect(page.find("command-progress")).toMatchObject({ value: 3, max: 12 });
  await page.click("more");
  expect(page.text("validate")).toContain("\u201ctest\u201d is under way");
  await page.click("cancel");
  expect(page.asked().at(-1)).toEqual({ kind: "cancel", command: "c1" });
  expect(page.text("cancel")).toBe("Cancelling\u2026");
  await answer("c1", { kind: "refused", reason: "It was cancelled." });
  expect(page.has("running")).toBe(false);
  expect(page.text("command-failure")).toContain("It was cancelled.");
});

test("a proof that fails names the first difference until it is dismissed", async () => {
  await page.showOne();
  await page.click("more", "prove", "prove-confirm");
  await answer("c1", {
    kind: "applied",
    step: 8,
    message: "Not exact.",
    result: { kind: "proof", steps: 10, exact: false, step: 9, difference: "the sampler's state", hint: "Give it a generator." },
  });
  expect(page.text("proof")).toContain("First difference at step 9: the sampler's state");
  expect(page.text("proof")).toContain("Give it a generator.");
  await act(() => page.find("proof").querySelector<HTMLElement>("[aria-label=Dismiss]")?.click());
  expect(page.has("proof")).toBe(false);
});

test("how far the run is follows its limits, and so does where it pauses", async () => {
  await showIn("running");
  expect(page.has("progress")).toBe(false);
  await page.receive(batch(1, limits({ max_steps: 160, max_epochs: 9, pause_at_step: 100 })));
  expect(page.text("last-step")).toBe("of 160");
  expect(page.find("progress")).toMatchObject({ value: 0.25, max: 1 });
  expect(page.text("pauses-at")).toBe("Pauses atstep 100");
});

test("the record has every command with its author, arguments, stage, step and outcome", async () => {
  const command: Command = { kind: "run-for", steps: 20 };
  await page.showOne({
    commands: [
      commandChanged({ id: "a", time: 10, command, status: "received", outcome: null }),
      commandChanged({ id: "a", time: 11, command, outcome: { kind: "applied", step: 7, message: "Pauses at step 27." } }),
    ],
  });
  await page.receive(
    batch(
      1,
      commandChanged({ id: "b", time: 20, author: "otf ctl", status: "refused", outcome: { kind: "refused", reason: "Paused already." } }),
    ),
  );
  await page.click("show-record");
  const cells = page.all("record-row").map((row) => [...row.children].slice(1).map((cell) => cell.textContent));
  expect(cells).toEqual([
    ["otf ctl", "Pause ", "refused", "1", "Paused already."],
    ["dashboard", "Run for 20 steps", "applied", "7", "Pauses at step 27."],
  ]);
});

test("the record shows what was requested and what was applied", async () => {
  const changes = [{ name: "lr", group: 0, before: 0.1, requested: 0.07, applied: 0.05 }];
  await page.showOne({
    commands: [
      commandChanged({
        command: { kind: "set-hyperparameters", values: { lr: 0.07 } },
        outcome: { kind: "applied", step: 1, result: { kind: "hyperparameters-set", changes, lr_rule: "Scaled." } },
      }),
    ],
  });
  await page.click("show-record");
  expect(page.text("record")).toContain("Scaled.lr (group 0): was 0.1, asked for 0.07, is 0.05");
});

test("a run that is at its end is not said to be in training when it is to be stopped", async () => {
  const reason = "training is done; resume trains another 5 epoch(s)";
  const runs = [runSummary({ state: "paused", reason })];
  await page.showOne({ session: sessionSummary({ state: "paused", runs }) });
  expect(page.find("stop").title).toContain("after the training loop");
  await page.click("stop");
  expect(page.text("stop-dialog")).toContain("Training is done, and its final state is saved.");
  expect(page.text("stop-dialog")).not.toContain("Keep training");
  await page.click("stop-confirm");
  expect(page.asked()).toEqual([{ kind: "stop" }]);
});

test("what makes a checkpoint the best stands beside it", async () => {
  await page.showOne({
    checkpoints: [checkpointSaved({ label: "best", score: 0.04603 }), checkpointSaved({ step: 20 })],
  });
  await page.click("more", "checkpoints");
  expect(page.all("checkpoint")[1]?.textContent).toContain("bestvalidation loss 0.04603");
  expect(page.all("checkpoint")[0]?.textContent).not.toContain("validation loss");
});
