import { useEffect, useState } from "preact/hooks";
import { RequestError } from "../transport/transport";
import type { SessionDetails } from "../wire/types";
import { useApp } from "./context";

/** What a session takes, once that is known; a text says why it cannot be. */
export function useDetails(session: string): SessionDetails | string | null {
  const { dashboard } = useApp();
  const [found, setFound] = useState<SessionDetails | string | null>(null);
  useEffect(() => {
    let isWanted = true;
    const take = (next: SessionDetails | string): void => {
      if (isWanted) setFound(next);
    };
    dashboard.loadDetails(session).then(take, (error: unknown) => {
      if (!(error instanceof RequestError)) throw error;
      take(error.message);
    });
    return () => {
      isWanted = false;
    };
  }, [dashboard, session]);
  return found;
}
