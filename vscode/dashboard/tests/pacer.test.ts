import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createPacer } from "../src/store/pacer";

let frames: FrameRequestCallback[];

beforeEach(() => {
  vi.useFakeTimers();
  frames = [];
  vi.stubGlobal("requestAnimationFrame", (callback: FrameRequestCallback) => frames.push(callback));
  vi.stubGlobal("cancelAnimationFrame", () => undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("however often it is asked for, a frame is drawn once", () => {
  const draw = vi.fn();
  const request = createPacer(draw);
  request();
  request();
  expect(draw).not.toHaveBeenCalled();
  frames.shift()?.(0);
  expect(draw).toHaveBeenCalledOnce();
  request();
  frames.shift()?.(16);
  expect(draw).toHaveBeenCalledTimes(2);
});

test("a page without frames, in the background, is still kept up to date", () => {
  const draw = vi.fn();
  createPacer(draw)();
  vi.advanceTimersByTime(1000);
  expect(draw).toHaveBeenCalledOnce();
});
