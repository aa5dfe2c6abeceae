import { render } from "preact";
import { act } from "preact/test-utils";
import { useState } from "preact/hooks";
import { vi } from "vitest";
import type { Host } from "../src/host/host";
import { Dashboard } from "../src/store/dashboard";
import { Dialogs } from "../src/store/dialogs";
import { ChartView } from "../src/store/view";
import { BottomPanel, type Part } from "../src/views/bottom-panel";
import { BrandBar } from "../src/views/brand-bar";
import { ConnectionBanner } from "../src/views/connection";
import { AppContext, useDashboard } from "../src/views/context";
import { NoSession } from "../src/views/empty";
import { Evaluations } from "../src/views/evaluations";
import { JobPanel } from "../src/views/job-panel";
import { ListDialogs } from "../src/views/list-dialogs";
import { Notices } from "../src/views/notices";
import { SessionHeader } from "../src/views/session-header";
import { SessionListView } from "../src/views/session-list";
import type { Command, SessionSummary, Snapshot } from "../src/wire/types";
import { FakeTransport } from "./fake-transport";
import { snapshot } from "./fixtures";

/** The page without its charts, which need a canvas, driven like a person drives it. */
export class Page {
  readonly transport = new FakeTransport();
  readonly copy = vi.fn<Host["copy"]>(() => Promise.resolve());
  readonly saveFile = vi.fn<Host["saveFile"]>();
  readonly download = vi.fn<Host["download"]>();
  readonly root = document.createElement("div");
  readonly dashboard: Dashboard;
  #commands = 0;

  private constructor() {
    this.dashboard = new Dashboard({
      transport: this.transport,
      picked: null,
      onPick: () => undefined,
      newId: () => `c${++this.#commands}`,
      pace: (draw) => draw,
    });
  }

  static async open(): Promise<Page> {
    const page = new Page();
    const host: Host = {
      onTheme: () => undefined,
      copy: page.copy,
      saveFile: page.saveFile,
      download: page.download,
      readSelection: () => null,
      writeSelection: () => undefined,
      onSelection: () => undefined,
    };
    const { dashboard, root } = page;
    const app = { dashboard, host, charts: new ChartView(), dialogs: new Dialogs() };
    document.body.append(root);
    await act(() =>
      render(
        <AppContext.Provider value={app}>
          <Parts />
        </AppContext.Provider>,
        root,
      ),
    );
    dashboard.open();
    return page;
  }

  close(): void {
    render(null, this.root);
    this.root.remove();
  }

  async show(...sessions: SessionSummary[]): Promise<void> {
    await act(async () => {
      this.transport.welcome(...sessions);
      await Promise.resolve();
    });
  }

  async showOne(change: Partial<Snapshot> = {}): Promise<void> {
    const given = snapshot(change);
    this.transport.resources.set("api/sessions/s1/snapshot", () => given);
    await this.show(given.session);
  }

  receive(frame: Parameters<FakeTransport["receive"]>[0]): Promise<void> {
    return act(() => this.transport.receive(frame));
  }

  has(id: string): boolean {
    return this.root.querySelector(`[data-testid="${id}"]`) !== null;
  }

  find(id: string): HTMLElement {
    const element = this.root.querySelector<HTMLElement>(`[data-testid="${id}"]`);
    if (!element) throw new Error(`there is no ${id} in ${this.root.innerHTML}`);
    return element;
  }

  all(id: string): HTMLElement[] {
    return [...this.root.querySelectorAll<HTMLElement>(`[data-testid="${id}"]`)];
  }

  text(id: string): string {
    return this.find(id).textContent;
  }

  isDisabled(id: string): boolean {
    return this.find(id).hasAttribute("disabled");
  }

  async click(...ids: string[]): Promise<void> {
    for (const id of ids) await act(() => this.find(id).click());
  }

  async type(id: string, text: string): Promise<void> {
    await this.typeInto(this.find(id), text);
  }

  async typeInto(element: HTMLElement, text: string): Promise<void> {
    await act(() => {
      (element as HTMLInputElement).value = text;
      element.dispatchEvent(new Event("input", { bubbles: true }));
      element.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  /** The commands that were asked for. */
  asked(): Command[] {
    return this.transport.sentOf("command-submission").map(({ command }) => command);
  }
}

function Parts() {
  const { model } = useDashboard();
  const [part, setPart] = useState<Part>("log");
  return (
    <>
      <BrandBar isDrawerOpen={false} onToggle={() => undefined} />
      <ConnectionBanner />
      <SessionListView isOpen={false} onClose={() => undefined} />
      <JobPanel />
      <ListDialogs />
      {model ? (
        <>
          <SessionHeader model={model} />
          <Notices model={model} />
          <Evaluations model={model} />
          <BottomPanel model={model} part={part} onPart={setPart} />
        </>
      ) : (
        <NoSession />
      )}
    </>
  );
}
