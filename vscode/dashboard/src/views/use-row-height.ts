import { useLayoutEffect, useRef } from "preact/hooks";
import { rowHeight } from "../charts/rows";

/** Gives the rows of a grid a height at which whole ones fill what is in sight of its scroller. */
export function useRowHeight(items: number) {
  const scroller = useRef<HTMLElement>(null);
  const grid = useRef<HTMLDivElement>(null);

  useLayoutEffect(() => {
    const outer = scroller.current;
    const inner = grid.current;
    if (!outer || !inner) return undefined;
    const fit = (): void => {
      const style = getComputedStyle(inner);
      const columns = style.gridTemplateColumns.split(" ").length;
      const height = rowHeight({
        room: outer.clientHeight - inner.offsetTop,
        rows: Math.ceil(items / columns),
        gap: parseFloat(style.rowGap) || 0,
        below: parseFloat(getComputedStyle(outer).paddingBottom) || 0,
      });
      inner.style.gridAutoRows = `${height}px`;
    };
    const size = new ResizeObserver(fit);
    size.observe(outer);
    // What stands above the grid moves it.
    for (const above of outer.children) if (above !== inner) size.observe(above);
    fit();
    return () => size.disconnect();
  });

  return { scroller, grid };
}
