import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { afterEach, expect, test, vi } from "vitest";
import { generateTypes } from "../scripts/wire.mjs";
import { decodeFrame, encodeFrame, isKnownEvent } from "../src/wire/frames";
import schema from "../src/wire/schema.json";

afterEach(() => {
  vi.restoreAllMocks();
});

test("types.ts is what schema.json generates", async () => {
  const types = await readFile(new URL("../src/wire/types.ts", import.meta.url), "utf8");
  expect(types, "src/wire/types.ts is stale: run `npm run wire`").toBe(await generateTypes(schema));
});

const GOLDEN = new URL("../../../tests/fixtures/golden/", import.meta.url);

function golden(kind: string): [string, string][] {
  return readdirSync(GOLDEN)
    .filter((name) => name.startsWith(`${kind}.`))
    .map((name) => [name.slice(kind.length + 1, -".json".length), read(name)]);
}

function read(name: string): string {
  return readFileSync(new URL(name, GOLDEN), "utf8");
}

const FROM_PYTHON = [
  "dashboard-welcome", "refusal", "batch", "session-changed", "session-gone", "command-queued",
  "command-progress", "command-reply", "behind",
];

test("every frame that Python sends to dashboards is understood here", () => {
  const frames = new Map(golden("frame"));
  for (const tag of FROM_PYTHON) {
    const frame = decodeFrame(frames.get(tag) ?? "");
    expect(frame?.frame).toBe(tag);
  }
});

test.each(golden("event"))("the event %s from Python is understood", (name, text) => {
  const event = JSON.parse(text) as { kind: string };
  // Where there is more than one of a kind, the others say whose they are after a dot.
  expect(event.kind).toBe(name.split(".")[0]);
  expect(isKnownEvent(event)).toBe(true);
});

test("a frame survives encoding and decoding", () => {
  expect(JSON.parse(encodeFrame({ frame: "subscribe", session: "s1", after: 3 }))).toEqual({
    frame: "subscribe",
    session: "s1",
    after: 3,
  });
  expect(decodeFrame('{"frame":"behind","session":"s1"}')).toEqual({
    frame: "behind",
    session: "s1",
  });
});

test("an unknown frame is skipped and reported once", () => {
  const warn = vi.spyOn(console, "warn").mockReturnValue();
  expect(decodeFrame('{"frame":"novelty"}')).toBeUndefined();
  expect(decodeFrame('{"frame":"novelty"}')).toBeUndefined();
  expect(warn).toHaveBeenCalledOnce();
  expect(warn.mock.lastCall?.[0]).toContain("novelty");
});

test.each(["not json", "17", "null", '{"frame":7}', '{"frame":"toString"}'])(
  "%s is not a frame",
  (text) => {
    vi.spyOn(console, "warn").mockReturnValue();
    expect(decodeFrame(text)).toBeUndefined();
  },
);

test("an unknown event is reported once and told apart", () => {
  const warn = vi.spyOn(console, "warn").mockReturnValue();
  expect(isKnownEvent({ kind: "metrics" })).toBe(true);
  expect(isKnownEvent({ kind: "later" })).toBe(false);
  expect(isKnownEvent({ kind: "later" })).toBe(false);
  expect(warn).toHaveBeenCalledOnce();
});
