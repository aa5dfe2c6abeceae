import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { RequestError } from "../src/transport/transport";
import { WebSocketTransport, type Socket } from "../src/transport/websocket";

class FakeSocket implements Socket {
  readyState = 0;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  readonly sent: string[] = [];

  constructor(readonly url: string) {}

  send(text: string): void {
    this.sent.push(text);
  }

  close(): void {
    this.readyState = 3;
    this.onclose?.({} as CloseEvent);
  }

  accept(): void {
    this.readyState = 1;
    this.onopen?.(new Event("open"));
  }
}

/** What of a browser's `XMLHttpRequest` is used. */
class FakeUpload {
  readonly upload: { onprogress: ((event: { loaded: number; total: number }) => void) | null } = {
    onprogress: null,
  };
  onload: (() => void) | null = null;
  onerror: (() => void) | null = null;
  onabort: (() => void) | null = null;
  status = 0;
  responseText = "";
  readonly opened: string[] = [];
  readonly sent: Blob[] = [];

  open(method: string, url: URL): void {
    this.opened.push(method, url.href);
  }

  setRequestHeader(): void {
    // Nothing here depends on them.
  }

  send(file: Blob): void {
    this.sent.push(file);
  }

  abort(): void {
    this.onabort?.();
  }

  answer(status: number, text: string): void {
    this.status = status;
    this.responseText = text;
    this.onload?.();
  }
}

let uploads: FakeUpload[];
let sockets: FakeSocket[];
let fetched: ReturnType<typeof vi.fn<typeof fetch>>;
const listener = { onClosed: vi.fn(), onFrame: vi.fn() };

function transportAt(base: string): WebSocketTransport {
  return new WebSocketTransport({
    base,
    connect: (url) => {
      const socket = new FakeSocket(url);
      sockets.push(socket);
      return socket;
    },
    fetch: fetched,
    newUpload: () => uploads[uploads.push(new FakeUpload()) - 1] as unknown as XMLHttpRequest,
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.clearAllMocks();
  sockets = [];
  uploads = [];
  fetched = vi.fn<typeof fetch>(() => Promise.reject(new TypeError("refused")));
});

afterEach(() => {
  vi.useRealTimers();
});

test("addresses are relative to the page", async () => {
  const transport = transportAt("https://host:1/otf/?token=x#session=1");
  transport.open(listener);
  expect(sockets[0]?.url).toBe("wss://host:1/otf/ws/dashboard");
  fetched.mockResolvedValueOnce(Response.json([1]));
  expect(await transport.request("api/sessions")).toEqual([1]);
  expect(fetched.mock.lastCall?.[0]).toEqual(new URL("https://host:1/otf/api/sessions"));
});

test("frames go out while open, and are refused otherwise", () => {
  const transport = transportAt("http://host/");
  transport.open(listener);
  expect(transport.send("a")).toBe(false);
  sockets[0]?.accept();
  expect(transport.send("b")).toBe(true);
  expect(sockets[0]?.sent).toEqual(["b"]);
});

test("a lost connection is tried again after 250 ms, then ever later, up to 2 s", async () => {
  const transport = transportAt("http://host/");
  transport.open(listener);
  sockets[0]?.accept();
  const delays: number[] = [];
  for (let attempt = 1; attempt <= 6; attempt += 1) {
    sockets.at(-1)?.close();
    const start = Date.now();
    while (sockets.length === attempt) await vi.advanceTimersByTimeAsync(10);
    delays.push(Date.now() - start);
  }
  expect(delays).toEqual([250, 500, 1000, 2000, 2000, 2000]);
  expect(listener.onClosed).toHaveBeenCalledTimes(6);
  sockets.at(-1)?.accept();
  sockets.at(-1)?.close();
  await vi.advanceTimersByTimeAsync(250);
  expect(sockets).toHaveLength(8);
});

test("a refused handshake is told apart from an absent server", async () => {
  const transport = transportAt("http://host/");
  transport.open(listener);
  fetched.mockResolvedValueOnce(Response.json({ error: "no token" }, { status: 401 }));
  sockets[0]?.close();
  await vi.advanceTimersByTimeAsync(0);
  expect(listener.onClosed).toHaveBeenLastCalledWith("unauthorized");
  await vi.advanceTimersByTimeAsync(250);
  sockets[1]?.close();
  await vi.advanceTimersByTimeAsync(0);
  expect(listener.onClosed).toHaveBeenLastCalledWith("unreachable");
});

test("errors carry the server's words and status", async () => {
  const transport = transportAt("http://host/");
  fetched.mockResolvedValueOnce(Response.json({ error: "There is no session x." }, { status: 404 }));
  await expect(transport.request("api/sessions/x")).rejects.toEqual(
    new RequestError(404, "There is no session x."),
  );
  fetched.mockResolvedValueOnce(new Response("oops", { status: 502 }));
  await expect(transport.request("api")).rejects.toMatchObject({ status: 502 });
  await expect(transport.request("api")).rejects.toMatchObject({ status: 0 });
});

test("something is asked for with its method, and its body as JSON", async () => {
  fetched.mockResolvedValueOnce(Response.json({ name: "best" }));
  const transport = transportAt("http://127.0.0.1:4444/");
  const asking = { method: "PUT", body: { name: "best" } } as const;
  await expect(transport.request("api/sessions/s1/name", asking)).resolves.toEqual({ name: "best" });
  const [url, init] = fetched.mock.calls[0] ?? [];
  expect((url as URL).href).toBe("http://127.0.0.1:4444/api/sessions/s1/name");
  expect(init).toMatchObject({ method: "PUT", body: '{"name":"best"}' });
});

function uploading() {
  const told: [number, number][] = [];
  const abort = new AbortController();
  const answered = transportAt("http://127.0.0.1:4444/").upload("api/sessions?wait=0", new Blob(["x"]), {
    onProgress: (sent, total) => told.push([sent, total]),
    signal: abort.signal,
  });
  const [request] = uploads;
  if (!request) throw new Error("nothing was sent");
  return { told, abort, answered, request };
}

test("a file is sent, and how far it is is told", async () => {
  const { told, answered, request } = uploading();
  expect(request.opened).toEqual(["POST", "http://127.0.0.1:4444/api/sessions?wait=0"]);
  expect(await request.sent[0]?.text()).toBe("x");
  request.upload.onprogress?.({ loaded: 3, total: 9 });
  expect(told).toEqual([[3, 9]]);
  request.answer(202, '{"id": "j1"}');
  await expect(answered).resolves.toEqual({ id: "j1" });
});

test.each([
  [422, '{"error": "It is damaged."}', "It is damaged."],
  [502, "<html>", "The server answered with status 502."],
])("a file that is refused with %s says why", async (status, text, message) => {
  const { answered, request } = uploading();
  request.answer(status, text);
  await expect(answered).rejects.toEqual(new RequestError(status, message));
});

test("a file that is not sent to its end is told apart from one that is refused", async () => {
  const lost = uploading();
  lost.request.onerror?.();
  await expect(lost.answered).rejects.toMatchObject({ status: 0 });
  uploads = [];
  const cancelled = uploading();
  cancelled.abort.abort();
  await expect(cancelled.answered).rejects.toMatchObject({ status: 0, message: "It was cancelled." });
});
