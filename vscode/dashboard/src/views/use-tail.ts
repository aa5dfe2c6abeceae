import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { LogItem } from "../store/log";

/** Lines in the page at first, and how many more are shown at a time further back. */
const STEP = 2000;
const END_PX = 8;

/** Where the lines in the page begin: some way before the end, at a line, or at the very top. */
type Start = "tail" | "top" | LogItem;

/** What is in sight: how far the list is scrolled, and where its first row stands. */
interface Place {
  scrollTop: number;
  row: HTMLElement | null;
  rowTop: number;
}

function placeOf(list: HTMLElement): Place {
  const row = list.querySelector<HTMLElement>(".log-line");
  return { scrollTop: list.scrollTop, row, rowTop: row?.offsetTop ?? 0 };
}

/** Keeps a list at its newest end until the person scrolls away from it. */
export function useTail(items: readonly LogItem[], onFollow: () => void) {
  const list = useRef<HTMLDivElement>(null);
  const place = useRef<Place>({ scrollTop: 0, row: null, rowTop: 0 });
  const start = useSignal<Start>("tail");
  const isFollowing = start.value === "tail";
  const from = indexOfStart(items, start.value);
  const visible = from === 0 ? items : items.slice(from);
  const first = visible[0];

  useLayoutEffect(() => {
    const element = list.current;
    if (!element) return;
    const { scrollTop, row, rowTop } = place.current;
    if (isFollowing) element.scrollTop = element.scrollHeight;
    // Older lines have come above: what is in sight stays where it is.
    else if (row?.isConnected) element.scrollTop = scrollTop + row.offsetTop - rowTop;
    place.current = placeOf(element);
  }, [items, first, isFollowing]);

  useLayoutEffect(() => {
    const element = list.current;
    if (!element || !isFollowing) return undefined;
    // A list that was out of sight could not be scrolled; one that changes its height shows its end.
    const size = new ResizeObserver(() => {
      element.scrollTop = element.scrollHeight;
      place.current = placeOf(element);
    });
    size.observe(element);
    return () => size.disconnect();
  }, [isFollowing]);

  function follow(): void {
    start.value = "tail";
    onFollow();
  }

  function onScroll(): void {
    const element = list.current;
    if (!element) return;
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < END_PX;
    // Growing content moves the end away too; only a person scrolls upwards.
    const isUpwards = element.scrollTop < place.current.scrollTop;
    if (isAtEnd && !isFollowing) follow();
    else if (!isAtEnd && isUpwards && isFollowing) start.value = first ?? "tail";
    place.current = placeOf(element);
  }

  return {
    list,
    visible,
    isFollowing,
    /** Whether lines that are held are left out before the first one visible. */
    isCut: from > 0,
    follow,
    onScroll,
    showMore: () => {
      start.value = items[from - STEP] ?? "top";
    },
  };
}

function indexOfStart(items: readonly LogItem[], start: Start): number {
  if (start === "top") return 0;
  if (start === "tail") return Math.max(0, items.length - STEP);
  // By its key: a line that stands for several changes with their number.
  return Math.max(0, items.findIndex(({ key }) => key === start.key));
}
