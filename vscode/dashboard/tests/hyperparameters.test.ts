import { expect, test } from "vitest";
import {
  boundsText,
  editsOf,
  fieldKey,
  groupsOf,
  parseValue,
} from "../src/store/hyperparameters";
import type { Hyperparameter } from "../src/wire/types";
import { hyperparameters } from "./fixtures";

const lr: Hyperparameter = { name: "lr", value: 0.1, group: 0, low: 0, high: 1 };

test.each([
  ["0.01", lr, { value: 0.01 }],
  [" 1e-3 ", lr, { value: 0.001 }],
  ["1e\u22123", lr, { value: 0.001 }],
  ["1", lr, { value: 1 }],
  ["1.01", lr, { problem: "lr is at most 1." }],
  ["-1", lr, { problem: "lr is at least 0." }],
  ["0,1", lr, { problem: "lr is a number." }],
  ["Infinity", lr, { problem: "lr is a number." }],
  ["false", { name: "mixup", value: true }, { value: false }],
  ["linear", { name: "policy", value: "cosine" }, { value: "linear" }],
  [" ", { name: "policy", value: "cosine" }, { problem: "policy is a text." }],
])("%j for %j is %j", (text, field, expected) => {
  expect(parseValue(text, field)).toEqual(expected);
});

test("bounds are said as far as there are any", () => {
  expect(boundsText(lr)).toBe("0 to 1");
  expect(boundsText({ name: "a", value: 1, low: 1e-8 })).toBe("at least 1e\u22128");
  expect(boundsText({ name: "a", value: 1 })).toBe("");
});

function edit(texts: Record<string, string>, hold: boolean | null = null, second = false) {
  const declared = hyperparameters();
  if (second) declared.values.push({ name: "lr", value: 0.2, group: 1 });
  return editsOf(groupsOf(declared), new Map(Object.entries(texts)), hold);
}

test("with one parameter group all edits are one command: all of them or none", () => {
  expect(edit({ "0 lr": "0.05", "0 momentum": "0.8", " mixup": "false" }).commands).toEqual([
    { kind: "set-hyperparameters", values: { lr: 0.05, momentum: 0.8, mixup: false } },
  ]);
});

test("with several groups each has its own command", () => {
  expect(edit({ "0 lr": "0.05", "1 lr": "0.01", " mixup": "false" }, null, true).commands).toEqual([
    { kind: "set-hyperparameters", values: { lr: 0.05 }, group: 0 },
    { kind: "set-hyperparameters", values: { mixup: false } },
    { kind: "set-hyperparameters", values: { lr: 0.01 }, group: 1 },
  ]);
});

test("what is typed as it is already is no change, and one problem stops all", () => {
  expect(edit({ "0 lr": "0.1" })).toEqual({ commands: [], problems: new Map() });
  const { commands, problems } = edit({ "0 lr": "0.05", "0 momentum": "2" });
  expect(commands).toEqual([]);
  expect([...problems]).toEqual([["0 momentum", "momentum is at most 1."]]);
});

test("holding goes along with a learning rate, or alone", () => {
  expect(edit({ "0 lr": "0.05", " mixup": "false" }, true).commands).toEqual([
    { kind: "set-hyperparameters", values: { lr: 0.05, mixup: false }, hold: true },
  ]);
  expect(edit({ " mixup": "false" }, false).commands).toEqual([
    { kind: "set-hyperparameters", values: { mixup: false } },
    { kind: "set-hyperparameters", values: {}, hold: false },
  ]);
});

test("groups are named by what they are, and fields by their group", () => {
  expect(groupsOf(hyperparameters()).map(({ title }) => title)).toEqual(["Optimizer", "Training"]);
  expect(fieldKey({ name: "lr", value: 1, group: 1 })).not.toBe(fieldKey(lr));
});
