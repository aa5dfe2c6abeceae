import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { BrandBar } from "./brand-bar";
import { ConnectionBanner } from "./connection";
import { useApp, useDashboard } from "./context";
import { NoSession } from "./empty";
import { SessionListView } from "./session-list";
import { SessionView } from "./session-view";
import { stateText } from "./state-pill";

/** The whole page. */
export function AppView() {
  const { charts, dialogs } = useApp();
  const dashboard = useDashboard();
  const isDrawerOpen = useSignal(false);
  const { model, selected } = dashboard;
  useTitle();
  useEffect(() => {
    charts.reset();
    // A dialog is about the session that was shown when it was opened.
    dialogs.close();
  }, [charts, dialogs, selected]);
  return (
    <div class="app">
      <BrandBar
        isDrawerOpen={isDrawerOpen.value}
        onToggle={() => (isDrawerOpen.value = !isDrawerOpen.value)}
      />
      <SessionListView
        isOpen={isDrawerOpen.value}
        onClose={() => (isDrawerOpen.value = false)}
      />
      <main class="main" {...looking(() => dashboard.stay())}>
        <ConnectionBanner />
        {model ? <SessionView key={model.id} model={model} /> : <NoSession />}
      </main>
    </div>
  );
}

/** What a person does who looks at the session shown, rather than at whichever is the newest. */
function looking(onLook: () => void) {
  return { onPointerDown: onLook, onWheel: onLook, onTouchMove: onLook, onKeyDown: onLook };
}

/** The tab's title tells the state, for when the tab is not the one in front. */
function useTitle(): void {
  const { dashboard } = useApp();
  useSignalEffect(() => {
    dashboard.track();
    const { model } = dashboard;
    const title = model
      ? `${stateText(model.state, dashboard.isOutdated(model.state))} \u00b7 ${model.project} \u2013 OnTheFly`
      : "OnTheFly";
    if (document.title !== title) document.title = title;
  });
}
