// @vitest-environment happy-dom

import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, test } from "vitest";
import { batch, checkpointSaved, guardTripped, rewound, sessionSummary, stallNoticed } from "./fixtures";
import { Page } from "./page";

let page: Page;

beforeEach(async () => {
  page = await Page.open();
});

afterEach(() => page.close());

const dismiss = (id: string) =>
  act(() => page.find(id).querySelector<HTMLElement>("[aria-label=Dismiss]")?.click());

test("a stall is told with the stack, as long as it lasts", async () => {
  await page.showOne();
  await page.receive(batch(1, stallNoticed()));
  expect(page.text("stall")).toContain("Nothing has moved for 1:01 or more in the phase \u201cdata\u201d");
  expect(page.find("stall").querySelector("details pre")?.textContent).toContain("train.py");
  await page.receive(
    batch(2, { kind: "stall-ended", time: 270, run: "baseline", step: 30, phase: "data", seconds: 70 }),
  );
  expect(page.has("stall")).toBe(false);
});

test("a process that is gone does not stall", async () => {
  await page.showOne({ session: sessionSummary({ state: "lost", connected: false }), stalls: [stallNoticed()] });
  expect(page.has("stall")).toBe(false);
});

test("a guard is told with its step, samples and last checkpoint, which leads back", async () => {
  await page.showOne({ checkpoints: [checkpointSaved()] });
  await page.receive(batch(1, guardTripped()));
  const text = page.text("guard");
  for (const part of ["non-finite paused the run at step 30", "loss is not finite.", "3, 1, 4", "baseline@10"]) {
    expect(text).toContain(part);
  }
  await page.click("guard-rewind", "load-checkpoint-confirm");
  expect(page.asked()).toEqual([
    { kind: "load-checkpoint", checkpoint: "baseline@10", as_new_run: false },
  ]);
});

test("all indices of a guard's batch can be copied", async () => {
  await page.showOne();
  const indices = Array.from({ length: 64 }, (_, index) => index);
  await page.receive(batch(1, guardTripped({ indices })));
  expect(page.text("guard")).toContain("and 52 more");
  await act(() => page.find("guard").querySelector<HTMLElement>(".guard-batch button")?.click());
  expect(page.copy).toHaveBeenCalledWith(indices.join(", "));
});

test("a dismissed guard comes back when it trips again, and says how often it has", async () => {
  await page.showOne({ guards: [guardTripped()] });
  expect(page.text("guard")).toContain("(no longer kept)");
  await dismiss("guard");
  expect(page.has("guard")).toBe(false);
  await page.receive(batch(1, guardTripped({ step: 31, action: "warn" })));
  expect(page.text("guard")).toContain("warned at step 31");
  expect(page.text("guard")).toContain("It has tripped 2 times.");
});

test("a checkpoint that could not be written is warned of until that is read", async () => {
  await page.showOne();
  const failed = { kind: "checkpoint-failed", time: 1, run: "baseline", label: "best" } as const;
  await page.receive(batch(1, { ...failed, step: 7, reason: "No space left on device." }));
  expect(page.text("checkpoint-failed")).toContain("at step 7 (best) could not be written");
  expect(page.find("checkpoint-failed").dataset.tone).toBe("warning");
  await dismiss("checkpoint-failed");
  expect(page.has("checkpoint-failed")).toBe(false);
  await page.receive(batch(2, { ...failed, step: 8, reason: "No space left on device." }));
  expect(page.text("checkpoint-failed")).toContain("2 have failed in all.");
});

test("whether going back will be exact is told, with the findings on a click", async () => {
  await page.showOne();
  expect(page.has("determinism")).toBe(false);
  const assessed = { kind: "determinism-assessed", time: 1, run: "baseline" } as const;
  await page.receive(batch(1, { ...assessed, exact: true }));
  expect(page.text("determinism")).toBe("exact");
  await page.receive(batch(2, { ...assessed, exact: false, findings: ["The dataset has no state."] }));
  expect(page.text("determinism")).toBe("not exact");
  await page.click("determinism");
  expect(page.root.textContent).toContain("The dataset has no state.");
});

test("a test result of steps that were rewound says so", async () => {
  await page.showOne();
  await page.receive(
    batch(1, {
      kind: "evaluation-finished",
      time: 400,
      run: "baseline",
      step: 9,
      split: "test",
      samples: 100,
      values: { loss: 0.5 },
    }),
  );
  expect(page.text("evaluation")).not.toContain("rewound");
  await page.receive(batch(2, rewound(5, 9)));
  expect(page.text("evaluation")).toContain("rewound since");
});
