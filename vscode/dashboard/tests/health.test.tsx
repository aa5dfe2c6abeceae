// @vitest-environment happy-dom

import { afterEach, beforeEach, expect, test } from "vitest";
import { argumentsText, outcomeText } from "../src/format/command";
import { ranked, worstOf } from "../src/store/health";
import { SessionModel } from "../src/store/session";
import { filterLog } from "../src/store/log-filter";
import { batch, commandChanged, healthFinding, healthReported, rewound, runSummary, sessionSummary, snapshot } from "./fixtures";
import { Page } from "./page";

let page: Page;

beforeEach(async () => {
  page = await Page.open();
});

afterEach(() => {
  page.close();
});

test("the newest report of each run and check is kept", () => {
  const model = new SessionModel(snapshot({ health: [healthReported({ findings: [healthFinding()] })] }));
  expect(model.health.of("baseline")).toHaveLength(1);
  model.applyBatch(
    batch(
      1,
      healthReported({ check: "throughput" }),
      healthReported({}, { step: 50 }),
      healthReported({}, { run: "other" }),
    ),
  );
  expect(model.health.of("baseline").map(({ step, report }) => [report.check, step])).toEqual([
    ["numerics", 50],
    ["throughput", 40],
  ]);
});

test("findings are ranked over all checks, the gravest first", () => {
  const info = healthFinding({ severity: "info" });
  const warning = healthFinding({ severity: "warning" });
  const critical = healthFinding();
  const found = ranked([
    healthReported({ findings: [info] }),
    healthReported({ check: "activations", findings: [critical, warning] }),
  ]);
  expect(found.map(({ finding }) => finding.severity)).toEqual(["critical", "warning", "info"]);
  expect(worstOf([info, warning])).toBe("warning");
  expect(worstOf([])).toBeNull();
});

test.each([
  ["critical", 40, "critical: head.weight: It is not finite."],
  ["warning", 30, "warning: head.weight: It is not finite."],
  ["info", 20, "info: head.weight: It is not finite."],
] as const)("a finding that is %s is told in the log at level %i", (severity, level, text) => {
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, healthReported({ findings: [healthFinding({ severity })] })));
  expect(model.log.items()[0]).toMatchObject({ level, text, source: "numerics" });
});

test("what was asked for and what came of it, in words", () => {
  expect(argumentsText({ kind: "health" })).toBe("all");
  expect(argumentsText({ kind: "health", check: "numerics", every: 1000 })).toBe("numerics, every 1,000 steps");
  expect(argumentsText({ kind: "health", check: "determinism", proof: 5 })).toBe("determinism, proof of 5 steps");
  const { report } = healthReported({ findings: [healthFinding()] });
  const reports = [report, healthReported({ check: "throughput" }).report, healthReported({ check: "activations", refusal: "No batch." }).report];
  expect(outcomeText({ kind: "applied", step: 1, result: { kind: "health-checked", reports } })).toBe(
    "numerics: 1 finding, throughput: nothing found, activations not made",
  );
});

test("the dialog makes a check, and shows what it finds as it comes in", async () => {
  await page.showOne();
  await page.click("more", "health");
  expect(page.text("health-none")).toBe("No check was made of this run yet.");
  await page.type("health-check", "numerics");
  await page.click("health-confirm");
  expect(page.asked()).toEqual([{ kind: "health", check: "numerics" }]);
  expect(page.isDisabled("health-confirm")).toBe(true);
  await page.receive(
    batch(
      1,
      healthReported({ findings: [healthFinding({ severity: "warning", where: "", what: "It is slow." }), healthFinding()] }),
      healthReported({ check: "throughput" }),
      healthReported({ check: "activations", refusal: "No batch is left." }),
    ),
  );
  expect(page.all("health-finding").map((item) => item.dataset.severity)).toEqual(["critical", "warning"]);
  const [first] = page.all("health-finding");
  for (const part of ["head.weight", "It is not finite.", "3 NaN of 48", "numerics, step 40", "Nothing is learned.", "Try: go back."]) {
    expect(first?.textContent).toContain(part);
  }
  expect(page.all("health-report").map((item) => item.textContent)).toEqual([
    "activations: No batch is left. (step 40)",
    "throughput: nothing found (step 40)",
  ]);
});

test("what was found in steps that were rewound says so", async () => {
  await page.showOne({ health: [healthReported({ findings: [healthFinding()] })] });
  await page.receive(batch(1, rewound(10, 45)));
  await page.click("more", "health");
  expect(page.text("health-finding")).toContain("step 40, rewound since");
});

test("findings can be read when the run has ended, and none can be asked for", async () => {
  const runs = [runSummary({ state: "finished" })];
  await page.showOne({
    session: sessionSummary({ state: "finished", runs }),
    health: [healthReported({ findings: [healthFinding()] })],
  });
  await page.click("more", "health");
  expect(page.text("health-finding")).toContain("It is not finite.");
  expect(page.isDisabled("health-confirm")).toBe(true);
  expect(page.find("health-confirm").title).toBe("The run has finished.");
});

test("a grave finding stays in sight until it is dismissed, a slight one does not", async () => {
  await page.showOne();
  await page.click("more", "health", "health-confirm");
  const { report } = healthReported({ findings: [healthFinding({ severity: "info" })] });
  const reply = (id: string, severity: "critical" | "info") =>
    page.receive({
      frame: "command-reply",
      id,
      session: "s1",
      outcome: {
        kind: "applied",
        step: 8,
        message: "numerics: 1 finding.",
        result: { kind: "health-checked", reports: [{ ...report, findings: [healthFinding({ severity })] }] },
      },
    });
  await reply("c1", "info");
  expect(page.has("health-checked")).toBe(false);
  await page.click("health-confirm");
  await reply("c2", "critical");
  expect(page.text("health-checked")).toContain("numerics: 1 finding.");
});

test("that a planned check was made is no news, and the newest is enough in a brief log", async () => {
  const planned = (id: string, author: string) =>
    commandChanged({ id, author, command: { kind: "health", check: "numerics" } });
  await page.showOne();
  await page.receive(batch(1, planned("a", "schedule"), planned("b", "schedule")));
  expect(page.dashboard.commands.news("s1")).toBeUndefined();
  const model = new SessionModel(snapshot());
  model.applyBatch(batch(1, planned("a", "schedule"), planned("b", "schedule"), planned("c", "ada")));
  const shown = filterLog(model.log.items(), { level: 0, text: "", brief: true });
  expect(shown.map(({ source }) => source)).toEqual(["schedule", "ada"]);
});
