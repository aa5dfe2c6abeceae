import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { titleOf } from "../format/session";
import { BrandBar } from "./brand-bar";
import { ConnectionBanner } from "./connection";
import { useApp, useDashboard } from "./context";
import { NoSession } from "./empty";
import { JobPanel } from "./job-panel";
import { ListDialogs } from "./list-dialogs";
import { SessionListView } from "./session-list";
import { SessionView } from "./session-view";
import { stateText } from "./state-pill";
import { useFileDrop } from "./use-file-drop";

/** The whole page. */
export function AppView() {
  const { charts, dialogs } = useApp();
  const dashboard = useDashboard();
  const isDrawerOpen = useSignal(false);
  const { model, selected } = dashboard;
  const { isOver, dropping } = useFileDrop((file) => void dashboard.jobs.import(file));
  useTitle();
  useEffect(() => {
    charts.reset();
    // A dialog is about the session that was shown when it was opened.
    dialogs.close();
  }, [charts, dialogs, selected]);
  return (
    <div class="app" {...dropping}>
      <BrandBar
        isDrawerOpen={isDrawerOpen.value}
        onToggle={() => (isDrawerOpen.value = !isDrawerOpen.value)}
      />
      <SessionListView
        isOpen={isDrawerOpen.value}
        onClose={() => (isDrawerOpen.value = false)}
      />
      <JobPanel />
      <main class="main" {...looking(() => dashboard.stay())}>
        <ConnectionBanner />
        {model ? <SessionView key={model.id} model={model} /> : <NoSession />}
      </main>
      <ListDialogs />
      {isOver && (
        <div class="drop-target" data-testid="drop-target">
          <p>Drop a bundle, <code>.otf.zip</code>, to import it as a session.</p>
        </div>
      )}
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
      ? `${stateText(model.state, dashboard.isOutdated(model.state))} \u00b7 ${titleOf(model)} \u2013 OnTheFly`
      : "OnTheFly";
    if (document.title !== title) document.title = title;
  });
}
