import type uPlot from "uplot";
import type { Marker, MarkerKind } from "../store/markers";
import type { ChartTheme } from "./theme";

/** Where markers stand above the plot, in CSS pixels; the plot's padding leaves room for them. */
export const MARKER_ROOM = 15;
const SIZE = 3.5;
/** A pointer this near to a marker means it. */
const REACH_PX = 6;

/** How a kind looks: its colour, and how strong its line is. What matters more comes later. */
const LOOKS: Record<MarkerKind, { color: string; alpha: number }> = {
  checkpoint: { color: "--text-muted", alpha: 0.22 },
  test: { color: "--text-muted", alpha: 0.45 },
  pause: { color: "--amber", alpha: 0.5 },
  note: { color: "--text", alpha: 0.5 },
  hyperparameters: { color: "--text", alpha: 0.6 },
  rewind: { color: "--text", alpha: 0.6 },
  guard: { color: "--red", alpha: 0.75 },
};

/** What matters most first: where shapes would overlap, only the first of them is drawn. */
const ORDER = (Object.keys(LOOKS) as MarkerKind[]).reverse();

/** Thin lines, with a shape for each kind at their upper end. */
export function drawMarkers(plot: uPlot, markers: readonly Marker[], theme: ChartTheme): void {
  const { min, max } = plot.scales.x ?? {};
  if (min === undefined || max === undefined || markers.length === 0) return;
  const inSight = markers.filter(({ step }) => step >= min && step <= max);
  const taken = new Set<number>();
  plot.ctx.save();
  for (const kind of ORDER) drawKind(plot, kind, inSight, theme, taken);
  plot.ctx.restore();
}

function drawKind(
  plot: uPlot,
  kind: MarkerKind,
  markers: readonly Marker[],
  theme: ChartTheme,
  taken: Set<number>,
): void {
  const { ctx, bbox } = plot;
  const scale = devicePixelRatio;
  const { color, alpha } = LOOKS[kind];
  const places = placesOf(plot, kind, markers);
  ctx.strokeStyle = theme.color(color);
  ctx.fillStyle = theme.color(color);
  ctx.lineWidth = scale;
  ctx.globalAlpha = alpha;
  ctx.setLineDash([2 * scale, 3 * scale]);
  ctx.beginPath();
  for (const x of places) {
    ctx.moveTo(x, bbox.top - 2 * scale);
    ctx.lineTo(x, bbox.top + bbox.height);
  }
  ctx.stroke();
  ctx.globalAlpha = 1;
  ctx.beginPath();
  for (const x of places) {
    if (take(x, Math.round(2 * SIZE * scale), taken)) {
      SHAPES[kind](ctx, x, bbox.top - 7 * scale, SIZE * scale);
    }
  }
  ctx.fill();
}

/** Where the markers of a kind stand; lines nearer than this would be one smear, and slow to draw. */
function placesOf(plot: uPlot, kind: MarkerKind, markers: readonly Marker[]): number[] {
  const places: number[] = [];
  let free = -Infinity;
  for (const marker of markers) {
    if (marker.kind !== kind) continue;
    const x = Math.round(plot.valToPos(marker.step, "x", true));
    if (x < free) continue;
    free = x + 3 * devicePixelRatio;
    places.push(x);
  }
  return places;
}

/** Whether a place is free; from now on it is not, nor is what is nearer to it than `width`. */
function take(x: number, width: number, taken: Set<number>): boolean {
  if (taken.has(x)) return false;
  for (let at = x - width; at <= x + width; at += 1) taken.add(at);
  return true;
}

/** Each draws around `x`, `y`, as far as `r` to every side. */
const SHAPES: Record<
  MarkerKind,
  (ctx: CanvasRenderingContext2D, x: number, y: number, r: number) => void
> = {
  checkpoint: (ctx, x, y, r) => ctx.rect(x - 0.6 * r, y - 0.6 * r, 1.2 * r, 1.2 * r),
  test: (ctx, x, y, r) => {
    ctx.moveTo(x + 0.9 * r, y);
    ctx.arc(x, y, 0.9 * r, 0, 2 * Math.PI);
  },
  pause: (ctx, x, y, r) => {
    ctx.rect(x - 0.9 * r, y - r, 0.65 * r, 2 * r);
    ctx.rect(x + 0.25 * r, y - r, 0.65 * r, 2 * r);
  },
  note: (ctx, x, y, r) => polygon(ctx, x, y, r, [-1, -1, 1, -1, 1, 0.5, 0, 0.5, -0.5, 1.2, -0.5, 0.5, -1, 0.5]),
  hyperparameters: (ctx, x, y, r) => polygon(ctx, x, y, r, [0, -1.2, 1.2, 0, 0, 1.2, -1.2, 0]),
  rewind: (ctx, x, y, r) => polygon(ctx, x, y, r, [1, -1.1, 1, 1.1, -1.1, 0]),
  guard: (ctx, x, y, r) => polygon(ctx, x, y, r, [0, -1.2, 1.2, 1, -1.2, 1]),
};

function polygon(
  ctx: CanvasRenderingContext2D,
  x: number,
  y: number,
  r: number,
  corners: readonly number[],
): void {
  for (let index = 0; index < corners.length; index += 2) {
    const corner = [x + r * (corners[index] ?? 0), y + r * (corners[index + 1] ?? 0)] as const;
    if (index === 0) ctx.moveTo(...corner);
    else ctx.lineTo(...corner);
  }
  ctx.closePath();
}

/** The markers that a pointer at `step` means, where a pixel is so many steps wide. */
export function markersNear(
  markers: readonly Marker[],
  step: number,
  stepsPerPixel: number,
): Marker[] {
  const reach = REACH_PX * stepsPerPixel;
  const near = markers.filter((marker) => Math.abs(marker.step - step) <= reach);
  const least = Math.min(...near.map((marker) => Math.abs(marker.step - step)));
  // Only those in one place: what stands beside it is another thing.
  const place = near.find((marker) => Math.abs(marker.step - step) === least)?.step;
  return near.filter((marker) => marker.step === place);
}
