import { defineConfig } from "vitest/config";

export default defineConfig({
  // Relative, because a webview serves the build from a path it chooses itself.
  base: "./",
  build: {
    outDir: "../../packages/otf-serve/src/otf_serve/static",
    emptyOutDir: true,
    // The first with `light-dark()`; VS Code's webviews are newer.
    target: ["chrome123", "firefox120", "safari17.5"],
    // The polyfill would be an inline script, which the page's policy forbids.
    modulePreload: { polyfill: false },
    // A `data:` font or style would need a wider policy than the page has.
    assetsInlineLimit: 0,
  },
  test: {
    include: ["tests/**/*.test.{ts,tsx}"],
  },
});
