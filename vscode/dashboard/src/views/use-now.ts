import { useEffect, useState } from "preact/hooks";

/** The present time in seconds, renewed every so many seconds; `null` stands still. */
export function useNow(every: number | null): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    if (every === null) return undefined;
    const tick = (): void => setNow(Date.now() / 1000);
    tick();
    const timer = setInterval(tick, every * 1000);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}
