import { Backoff } from "./backoff";
import {
  RequestError,
  type Asking,
  type ClosedReason,
  type Transport,
  type TransportListener,
  type Watching,
} from "./transport";

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
  /** Of the ways to send a file, the one that tells how far it is. */
  newUpload: () => XMLHttpRequest;
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

  async request(path: string, asking: Asking = {}): Promise<unknown> {
    const { method = "GET", body: sent } = asking;
    let response: Response;
    try {
      response = await this.#parts.fetch(new URL(path, this.#parts.base), {
        method,
        credentials: "same-origin",
        headers: { Accept: "application/json" },
        ...(sent === undefined ? {} : { body: JSON.stringify(sent) }),
      });
    } catch (error) {
      throw new RequestError(0, `The server could not be reached (${String(error)}).`);
    }
    const body: unknown = await response.json().catch(() => null);
    return answerOf(response.status, body);
  }

  async upload(path: string, file: Blob, watching: Watching): Promise<unknown> {
    const request = this.#parts.newUpload();
    const answered = new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new RequestError(0, why));
      request.upload.onprogress = (event) => watching.onProgress(event.loaded, event.total);
      request.onload = () => resolve();
      request.onerror = () => fail("The connection to the server broke off while the file was sent.");
      request.onabort = () => fail("It was cancelled.");
    });
    request.open("POST", new URL(path, this.#parts.base));
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    watching.signal.addEventListener("abort", () => request.abort());
    request.send(file);
    await answered;
    return answerOf(request.status, parsed(request.responseText));
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

function answerOf(status: number, body: unknown): unknown {
  if (status >= 200 && status < 300) return body;
  throw new RequestError(status, errorText(status, body));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

function errorText(status: number, body: unknown): string {
  if (typeof body === "object" && body !== null && "error" in body) return String(body.error);
  return `The server answered with status ${status}.`;
}
