import type uPlot from "uplot";
import { lowerBound } from "../store/series";
import type { Line } from "./line";
import type { ChartTheme } from "./theme";

const HEIGHT = 8;
const HALF_WIDTH = 4.5;

/** A small triangle at the bottom for each measurement that is not finite: it must not vanish. */
export function drawNonFinite(plot: uPlot, lines: readonly Line[], theme: ChartTheme): void {
  const { min, max } = plot.scales.x ?? {};
  if (min === undefined || max === undefined) return;
  const scale = devicePixelRatio;
  const bottom = plot.bbox.top + plot.bbox.height;
  // An outline in the colour of the surface lifts the marks off a line that runs along the bottom.
  plot.ctx.strokeStyle = theme.color("--surface");
  plot.ctx.lineWidth = scale;
  for (const { points, style } of lines) {
    plot.ctx.fillStyle = theme.color(style.color);
    // Triangles nearer than their own width would be one smear, and slow to draw.
    let free = -Infinity;
    for (let index = lowerBound(points.steps, min); index < points.steps.length; index += 1) {
      const step = points.steps[index] ?? Infinity;
      if (step > max) break;
      if (points.values[index] !== null) continue;
      const x = plot.valToPos(step, "x", true);
      if (x < free) continue;
      free = x + HALF_WIDTH * scale;
      plot.ctx.beginPath();
      plot.ctx.moveTo(x - HALF_WIDTH * scale, bottom);
      plot.ctx.lineTo(x + HALF_WIDTH * scale, bottom);
      plot.ctx.lineTo(x, bottom - HEIGHT * scale);
      plot.ctx.fill();
      plot.ctx.stroke();
    }
  }
}
