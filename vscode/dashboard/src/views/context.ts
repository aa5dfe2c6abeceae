import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Host } from "../host/host";
import type { Dashboard } from "../store/dashboard";
import type { Dialogs } from "../store/dialogs";
import type { ChartView } from "../store/view";

export interface App {
  dashboard: Dashboard;
  host: Host;
  charts: ChartView;
  dialogs: Dialogs;
}

export const AppContext = createContext<App | null>(null);

/** The parts that `main.tsx` put together. */
export function useApp(): App {
  const app = useContext(AppContext);
  if (!app) throw new Error("a view was rendered outside AppContext");
  return app;
}

/**
 * What is shown. Every view that reads a model calls this, and is rendered anew when something has
 * changed: models change in place, so that unchanged properties say nothing.
 */
export function useDashboard(): Dashboard {
  const { dashboard } = useApp();
  dashboard.track();
  return dashboard;
}
