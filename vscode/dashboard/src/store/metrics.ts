import type { Metrics, Series as SeriesSnapshot } from "../wire/types";
import { Series } from "./series";

/** Every metric of a session, by name and by run. */
export class MetricsBook {
  readonly #byName = new Map<string, Map<string, Series>>();

  /** The names of the metrics, in the order in which they first appeared. */
  get names(): string[] {
    return [...this.#byName.keys()];
  }

  /** One metric's series, by run. */
  runs(name: string): ReadonlyMap<string, Series> {
    return this.#byName.get(name) ?? new Map<string, Series>();
  }

  load(series: readonly SeriesSnapshot[]): void {
    for (const one of series) this.#runsOf(one.name).set(one.run, Series.of(one, one.count));
  }

  apply(event: Metrics): void {
    for (const [name, values] of Object.entries(event.values)) {
      const runs = this.#runsOf(name);
      const series = runs.get(event.run) ?? new Series();
      runs.set(event.run, series);
      event.steps.forEach((step, index) => series.append(step, values[index] ?? null));
    }
  }

  /** Drop what a run had recorded after a step. */
  rewind(run: string, step: number): void {
    for (const runs of this.#byName.values()) runs.get(run)?.rewind(step);
  }

  /** Each metric's newest value of a run. */
  latest(run: string): Record<string, number | null> {
    const latest: Record<string, number | null> = {};
    for (const [name, runs] of this.#byName) {
      const value = runs.get(run)?.values.at(-1);
      if (value !== undefined) latest[name] = value;
    }
    return latest;
  }

  #runsOf(name: string): Map<string, Series> {
    const runs = this.#byName.get(name) ?? new Map<string, Series>();
    this.#byName.set(name, runs);
    return runs;
  }
}
