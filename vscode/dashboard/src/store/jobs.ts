import { RequestError, type Asking, type Transport } from "../transport/transport";
import type { Job, JobResult } from "../wire/types";

export type JobKind = Job["kind"];

/** A job as it is shown: one of the server's, or a bundle that is still on its way there. */
export interface ShownJob {
  readonly key: string;
  readonly kind: JobKind;
  readonly session: string;
  /** How a person knows the session, or the bundle's file. */
  readonly name: string;
  state: "asked" | "sending" | "running" | "done" | "failed";
  /** Bytes, or points of metrics; `total` is 0 where it is not known yet. */
  done: number;
  total: number;
  result: JobResult | null;
  /** Why it failed, for a person. */
  error: string;
  /** Whether it was told to end. */
  isCancelling: boolean;
  /** A bundle that was refused only because its session is here already. */
  again: File | null;
  /** The server's id of it, once it is known. */
  id: string | null;
  abort: AbortController | null;
}

export interface JobListParts {
  transport: Pick<Transport, "request" | "upload">;
  newId(): string;
  onChange(): void;
}

/** Seconds for which the server is asked to wait for news. */
const WAIT = 0.5;
/** Between two looks; the server itself answers no sooner than there is news, or it has waited. */
const PAUSE_MS = 100;
const RETRY_MS = 1000;

const CONFLICT = 409;
const CANCELLED = 410;

/** The long work that was asked for, from the first click until its outcome was read. */
export class JobList {
  readonly #parts: JobListParts;
  readonly #jobs = new Map<string, ShownJob>();

  constructor(parts: JobListParts) {
    this.#parts = parts;
  }

  /** All that is shown, the newest first. */
  all(): readonly ShownJob[] {
    return [...this.#jobs.values()].reverse();
  }

  get(key: string): ShownJob | undefined {
    return this.#jobs.get(key);
  }

  /** Whether something is being done with a session. */
  isBusy(session: string): boolean {
    return this.all().some((job) => job.session === session && isUnderWay(job));
  }

  /** Whether this page has asked for a session to be deleted. */
  isDeleting(session: string): boolean {
    return this.all().some((job) => job.kind === "delete" && job.session === session);
  }

  /** Ask for something to be done with a session; returns what it is known by. */
  ask(
    kind: Exclude<JobKind, "import">,
    session: string,
    options: { name?: string; query?: URLSearchParams } = {},
  ): string {
    const job = this.#add(kind, session, options.name ?? session);
    const query = new URLSearchParams(options.query);
    query.set("wait", "0");
    const path = `api/sessions/${encodeURIComponent(session)}${PATHS[kind]}?${query.toString()}`;
    const asking: Asking = { method: kind === "delete" ? "DELETE" : "POST" };
    void this.#follow(job, this.#parts.transport.request(path, asking));
    return job.key;
  }

  /** Send a bundle, to be taken in as a session; `asNew` gives that an id of its own. */
  import(file: File, asNew = false): string {
    const job = this.#add("import", "", file.name);
    if (!file.name.toLowerCase().endsWith(".zip")) {
      this.#fail(job, `${file.name} is no bundle: the name of one ends in .otf.zip.`);
      return job.key;
    }
    const abort = new AbortController();
    job.abort = abort;
    job.state = "sending";
    job.total = file.size;
    const query = new URLSearchParams({ name: file.name, wait: "0" });
    if (asNew) query.set("as_new", "true");
    const sending = this.#parts.transport.upload(`api/sessions?${query.toString()}`, file, {
      signal: abort.signal,
      onProgress: (sent, total) => {
        job.done = sent;
        job.total = total;
        this.#parts.onChange();
      },
    });
    void this.#follow(job, sending, file);
    return job.key;
  }

  /** Break a job off. What it was is shown no more, once it has ended. */
  cancel(key: string): void {
    const job = this.#jobs.get(key);
    if (!job || !isUnderWay(job)) return;
    job.isCancelling = true;
    if (job.state === "sending") job.abort?.abort();
    else this.#drop(job);
    this.#parts.onChange();
  }

  /** The outcome of a job was read; what it made is not wanted any more. */
  dismiss(key: string): void {
    const job = this.#jobs.get(key);
    if (!job || isUnderWay(job)) return;
    this.#jobs.delete(key);
    if (fileOf(job) !== null) this.#drop(job);
    this.#parts.onChange();
  }

  /** Take up what was going on when the page was last left, and what waits to be fetched. */
  async rejoin(): Promise<void> {
    let found: Job[];
    try {
      found = (await this.#parts.transport.request("api/jobs")) as Job[];
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return;
    }
    const known = new Set(this.all().map(({ id }) => id));
    for (const one of found) {
      if (known.has(one.id) || !(one.state === "running" || hasFile(one.result ?? null))) continue;
      const job = this.#add(one.kind, one.session, one.name);
      void this.#follow(job, Promise.resolve(one));
    }
  }

  #add(kind: JobKind, session: string, name: string): ShownJob {
    const job: ShownJob = {
      key: this.#parts.newId(),
      kind,
      session,
      name,
      state: "asked",
      done: 0,
      total: 0,
      result: null,
      error: "",
      isCancelling: false,
      again: null,
      id: null,
      abort: null,
    };
    this.#jobs.set(job.key, job);
    this.#parts.onChange();
    return job;
  }

  /** Follow a job from the answer to asking for it to its end. */
  async #follow(job: ShownJob, asked: Promise<unknown>, file: File | null = null): Promise<void> {
    try {
      this.#learn(job, (await asked) as Job);
      if (job.isCancelling) this.#drop(job);
      while (isUnderWay(job)) await this.#look(job);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      const isCancelled = job.isCancelling && (error.status === 0 || error.status === CANCELLED);
      if (isCancelled || error.status === CANCELLED) {
        this.#jobs.delete(job.key);
        this.#parts.onChange();
        return;
      }
      if (error.status === CONFLICT) job.again = file;
      this.#fail(job, error.message);
    }
  }

  async #look(job: ShownJob): Promise<void> {
    try {
      this.#learn(job, (await this.#parts.transport.request(`${pathOf(job)}?wait=${WAIT}`)) as Job);
      if (isUnderWay(job)) await pause(PAUSE_MS);
    } catch (error) {
      // Without the server it cannot go on, but whether it did only the server knows.
      if (!(error instanceof RequestError) || error.status !== 0) throw error;
      await pause(RETRY_MS);
    }
  }

  #learn(job: ShownJob, seen: Job): void {
    job.id = seen.id;
    job.state = seen.state === "done" ? "done" : "running";
    job.done = seen.done ?? 0;
    job.total = seen.total ?? 0;
    job.result = seen.result ?? null;
    this.#parts.onChange();
  }

  #fail(job: ShownJob, error: string): void {
    job.state = "failed";
    job.error = error;
    this.#parts.onChange();
  }

  #drop(job: ShownJob): void {
    if (job.id === null) return;
    // What cannot be dropped now goes by itself, in time.
    this.#parts.transport.request(pathOf(job), { method: "DELETE" }).catch((error: unknown) => {
      if (!(error instanceof RequestError)) throw error;
    });
  }
}

const PATHS: Record<Exclude<JobKind, "import">, string> = {
  export: "/export",
  metrics: "/metrics/export",
  verify: "/verify",
  delete: "",
};

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function pathOf(job: ShownJob): string {
  return `api/jobs/${encodeURIComponent(job.id ?? "")}`;
}

export function isUnderWay(job: ShownJob): boolean {
  return job.state !== "done" && job.state !== "failed";
}

/** Where the file is that a job has made; `null` where it has made none. */
export function fileOf(job: ShownJob): string | null {
  return job.state === "done" && hasFile(job.result) ? `${pathOf(job)}/file` : null;
}

function hasFile(result: JobResult | null): boolean {
  return result?.kind === "export" || result?.kind === "metrics";
}

/** How much of a job is done, from 0 to 1; `null` where that is not known. */
export function shareOf(job: ShownJob): number | null {
  return job.total > 0 ? Math.min(1, job.done / job.total) : null;
}
