import {
  RequestError,
  type Asking,
  type ClosedReason,
  type Transport,
  type TransportListener,
  type Watching,
} from "../src/transport/transport";
import type { FromDashboard, SessionSummary, ToDashboard } from "../src/wire/types";

/** A file on its way, whose fate the test decides. */
export interface Upload extends Watching {
  path: string;
  file: Blob;
  answer(body: unknown): void;
  refuse(status: number, message: string): void;
}

/** A transport whose other end is the test. */
export class FakeTransport implements Transport {
  readonly sent: FromDashboard[] = [];
  /**
   * What each request answers, by the beginning of its path, before which the method stands where
   * it is not GET.
   */
  readonly resources = new Map<string, () => unknown>();
  readonly requested: string[] = [];
  readonly bodies: unknown[] = [];
  readonly uploads: Upload[] = [];
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
  async request(path: string, { method = "GET", body }: Asking = {}): Promise<unknown> {
    const asked = method === "GET" ? path : `${method} ${path}`;
    this.requested.push(asked);
    if (body !== undefined) this.bodies.push(body);
    for (const [prefix, answer] of this.resources) {
      if (asked.startsWith(prefix)) return answer();
    }
    throw new RequestError(404, `There is nothing at ${path}.`);
  }

  upload(path: string, file: Blob, watching: Watching): Promise<unknown> {
    return new Promise((answer, reject) => {
      const refuse = (status: number, message: string) => reject(new RequestError(status, message));
      watching.signal.addEventListener("abort", () => refuse(0, "It was cancelled."));
      this.uploads.push({ path, file, ...watching, answer, refuse });
    });
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
