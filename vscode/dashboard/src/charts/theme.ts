/** Colours for the canvas, which cannot read custom properties by itself. */
export interface ChartTheme {
  text: string;
  grid: string;
  /** The colour behind a custom property such as `--run-1`. */
  color(property: string): string;
}

/** Resolve the custom properties in force at an element. */
export function readTheme(element: HTMLElement): ChartTheme {
  const probe = document.createElement("span");
  probe.hidden = true;
  const known = new Map<string, string>();
  const resolve = (property: string): string => {
    element.append(probe);
    probe.style.color = `var(${property})`;
    const resolved = getComputedStyle(probe).color;
    probe.remove();
    known.set(property, resolved);
    return resolved;
  };
  const color = (property: string): string => known.get(property) ?? resolve(property);
  return { text: color("--text-muted"), grid: color("--grid"), color };
}
