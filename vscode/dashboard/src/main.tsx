import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./styles/theme.css";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/sessions.css";
import "./styles/header.css";
import "./styles/charts.css";
import "./styles/log.css";
import "./styles/controls.css";
import "./styles/dialogs.css";
import "./styles/record.css";
import "./styles/health.css";
import "./styles/jobs.css";
import { BrowserHost } from "./host/browser";
import { Dashboard } from "./store/dashboard";
import { Dialogs } from "./store/dialogs";
import { createPacer } from "./store/pacer";
import { ChartView } from "./store/view";
import { WebSocketTransport } from "./transport/websocket";
import { AppView } from "./views/app";
import { AppContext } from "./views/context";

const host = new BrowserHost();
const charts = new ChartView();
const dashboard = new Dashboard({
  transport: new WebSocketTransport({
    base: document.baseURI,
    connect: (url) => new WebSocket(url),
    fetch: (input, init) => fetch(input, init),
    newUpload: () => new XMLHttpRequest(),
  }),
  picked: host.readSelection(),
  onPick: (session) => host.writeSelection(session),
  newId: () => crypto.randomUUID(),
  pace: createPacer,
});

host.onTheme((dark) => {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  charts.dark.value = dark;
});
host.onSelection((session) => dashboard.pick(session));

const root = document.getElementById("app");
if (!root) throw new Error("the page has no element #app");
render(
  <AppContext.Provider value={{ dashboard, host, charts, dialogs: new Dialogs() }}>
    <AppView />
  </AppContext.Provider>,
  root,
);
dashboard.open();
