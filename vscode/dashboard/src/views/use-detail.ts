import { useComputed, useSignal, useSignalEffect, type Signal } from "@preact/signals";
import type { RefObject } from "preact";
import { shownRuns, type Detail } from "../charts/line";
import { RequestError } from "../transport/transport";
import type { SessionModel } from "../store/session";
import { useApp } from "./context";

/** When a zoom looks closer at thinned series than they are held, the points between. */
export function useDetail(
  model: SessionModel,
  name: string,
  canvas: RefObject<HTMLElement | null>,
): Signal<Detail | null> {
  const { dashboard, charts } = useApp();
  const detail = useSignal<Detail | null>(null);
  const rewinds = useComputed(() => {
    dashboard.track();
    return model.rewinds.length;
  });
  useSignalEffect(() => {
    const range = charts.zoom.value;
    const after = rewinds.value;
    detail.value = null;
    if (!range) return undefined;
    const thinned = shownRuns(model, name, new Set()).filter(({ series }) => series.isThinned);
    if (thinned.length === 0) return undefined;
    let isWanted = true;
    dashboard
      .loadDetail({
        session: model.id,
        name,
        runs: thinned.map(({ run }) => run),
        ...range,
        points: 2 * (canvas.current?.clientWidth ?? 500),
      })
      .then((series) => {
        if (!isWanted) return;
        const runs = new Map(series.map((one) => [one.run, one]));
        detail.value = { range, runs, rewinds: after };
      })
      .catch((error: unknown) => {
        if (!(error instanceof RequestError)) throw error;
        // The zoomed chart stays right without it, only coarser.
        console.warn(`No finer points of ${name}: ${error.message}`);
      });
    return () => {
      isWanted = false;
    };
  });
  return detail;
}
