import { Backoff } from "./backoff";
import { RequestError, type ClosedReason, type Transport, type TransportListener } from "./transport";

/** What of a browser's `WebSocket` is used; tests hand in their own. */
export interface Socket {
  readonly readyState: number;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  send(text: string): void;
}

export interface WebSocketTransportParts {
  /** The address of the page, which everything else is relative to. */
  base: string;
  connect(url: string): Socket;
  fetch: typeof fetch;
}

const OPEN = 1;

/** Frames over a WebSocket and resources over HTTP, from the server that served the page. */
export class WebSocketTransport implements Transport {
  readonly #parts: WebSocketTransportParts;
  readonly #backoff = new Backoff();
  #listener: TransportListener | null = null;
  #socket: Socket | null = null;

  constructor(parts: WebSocketTransportParts) {
    this.#parts = parts;
  }

  open(listener: TransportListener): void {
    this.#listener = listener;
    this.#connect();
  }

  send(text: string): boolean {
    if (this.#socket?.readyState !== OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  async request(path: string): Promise<unknown> {
    let response: Response;
    try {
      response = await this.#parts.fetch(new URL(path, this.#parts.base), {
        credentials: "same-origin",
        headers: { Accept: "application/json" },
      });
    } catch (error) {
      throw new RequestError(0, `The server could not be reached (${String(error)}).`);
    }
    const body: unknown = await response.json().catch(() => null);
    if (!response.ok) throw new RequestError(response.status, errorText(response.status, body));
    return body;
  }

  #connect(): void {
    const socket = this.#parts.connect(socketUrl(this.#parts.base));
    let wasOpen = false;
    this.#socket = socket;
    socket.onopen = () => {
      wasOpen = true;
      this.#backoff.reset();
    };
    socket.onmessage = (event) => this.#listener?.onFrame(String(event.data));
    socket.onclose = () => {
      this.#socket = null;
      void this.#lost(wasOpen);
    };
  }

  async #lost(wasOpen: boolean): Promise<void> {
    // A browser does not tell why a handshake failed; a resource behind the same cookie does.
    const reason = wasOpen ? "unreachable" : await this.#closedReason();
    this.#listener?.onClosed(reason);
    setTimeout(() => this.#connect(), this.#backoff.next());
  }

  async #closedReason(): Promise<ClosedReason> {
    try {
      await this.request("api/sessions");
    } catch (error) {
      const status = error instanceof RequestError ? error.status : 0;
      if (status === 401 || status === 403) return "unauthorized";
    }
    return "unreachable";
  }
}

function socketUrl(base: string): string {
  const url = new URL("ws/dashboard", base);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  return url.href;
}

function errorText(status: number, body: unknown): string {
  if (typeof body === "object" && body !== null && "error" in body) return String(body.error);
  return `The server answered with status ${status}.`;
}
