/** How frames and snapshots reach the dashboard; the rest of the code knows only this. */

/** Why there is no connection. `unauthorized`: the page was opened without its token. */
export type ClosedReason = "unreachable" | "unauthorized";

export interface TransportListener {
  /**
   * No connection stands. The transport keeps trying by itself; that a connection stands again is
   * told by the server's welcome, the first frame of each.
   */
  onClosed(reason: ClosedReason): void;
  /** One frame, as text. */
  onFrame(text: string): void;
}

export interface Transport {
  /** Connect, and stay connected for as long as the page lives. */
  open(listener: TransportListener): void;
  /** Send one frame; `false` when there is no connection, and then nothing was sent. */
  send(text: string): boolean;
  /**
   * Read a JSON resource, such as `api/sessions`, or have something done with it. Rejects with
   * `RequestError`.
   */
  request(path: string, asking?: Asking): Promise<unknown>;
  /** Send a file; the answer is JSON. Rejects with `RequestError`, also where it was broken off. */
  upload(path: string, file: Blob, watching: Watching): Promise<unknown>;
}

/** What is to be done with a resource; without `method` it is read. */
export interface Asking {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  /** What is sent along, as JSON. */
  body?: unknown;
}

export interface Watching {
  /** So many bytes of so many have been sent. */
  onProgress(sent: number, total: number): void;
  /** Breaks the sending off. */
  signal: AbortSignal;
}

/** A resource could not be read. `status` is the HTTP status, 0 when nothing was reached. */
export class RequestError extends Error {
  override readonly name = "RequestError";

  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}
