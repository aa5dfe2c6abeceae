// @vitest-environment happy-dom

import { expect, test, vi } from "vitest";
import { BrowserHost } from "../src/host/browser";

test("the selection is kept in the address", () => {
  const host = new BrowserHost();
  expect(host.readSelection()).toBeNull();
  host.writeSelection("a b&c");
  expect(location.hash).toBe("#session=a+b%26c");
  expect(host.readSelection()).toBe("a b&c");
  host.writeSelection(null);
  expect(location.hash).toBe("");
});

test("an edited address changes the selection", () => {
  const host = new BrowserHost();
  const listener = vi.fn();
  host.onSelection(listener);
  host.writeSelection("s9");
  window.dispatchEvent(new HashChangeEvent("hashchange"));
  expect(listener).toHaveBeenLastCalledWith("s9");
});

test("the theme is told at once", () => {
  const listener = vi.fn();
  new BrowserHost().onTheme(listener);
  expect(listener).toHaveBeenCalledWith(expect.any(Boolean));
});
