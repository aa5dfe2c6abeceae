import { RequestError, type ClosedReason, type Transport, type TransportListener } from "../src/transport/transport";
import type { FromDashboard, SessionSummary, ToDashboard } from "../src/wire/types";

/** A transport whose other end is the test. */
export class FakeTransport implements Transport {
  readonly sent: FromDashboard[] = [];
  /** What each request answers, by the beginning of its path. */
  readonly resources = new Map<string, () => unknown>();
  readonly requested: string[] = [];
  isOpen = false;
  #listener: TransportListener | null = null;

  open(listener: TransportListener): void {
    this.#listener = listener;
  }

  send(text: string): boolean {
    if (!this.isOpen) return false;
    this.sent.push(JSON.parse(text) as FromDashboard);
    return true;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- what is thrown shall reject
  async request(path: string): Promise<unknown> {
    this.requested.push(path);
    for (const [prefix, answer] of this.resources) {
      if (path.startsWith(prefix)) return answer();
    }
    throw new RequestError(404, `There is nothing at ${path}.`);
  }

  /** The server greets the page. */
  welcome(...sessions: SessionSummary[]): void {
    this.isOpen = true;
    this.receive({
      frame: "dashboard-welcome",
      server_version: "1",
      protocol: 1,
      home: "",
      sessions,
    });
  }

  receive(frame: ToDashboard): void {
    this.#listener?.onFrame(JSON.stringify(frame));
  }

  lose(reason: ClosedReason = "unreachable"): void {
    this.isOpen = false;
    this.#listener?.onClosed(reason);
  }

  sentOf<F extends FromDashboard["frame"]>(frame: F): Extract<FromDashboard, { frame: F }>[] {
    return this.sent.filter((one): one is Extract<FromDashboard, { frame: F }> => one.frame === frame);
  }
}
