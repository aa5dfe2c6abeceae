import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";

/** Files that are dragged onto the page: whether one is over it, and what is dropped. */
export function useFileDrop(onDrop: (file: File) => void) {
  const isOver = useSignal(false);
  // Going from one element to another within the page is told as an entry and a leave.
  const depth = useRef(0);
  const change = (by: 1 | -1): void => {
    depth.current = Math.max(0, depth.current + by);
    isOver.value = depth.current > 0;
  };
  const dropping = {
    onDragEnter: (event: DragEvent) => {
      if (holdsFiles(event)) change(1);
    },
    onDragLeave: (event: DragEvent) => {
      if (holdsFiles(event)) change(-1);
    },
    onDragOver: (event: DragEvent) => {
      // Otherwise the browser would show the file in place of the page.
      if (holdsFiles(event)) event.preventDefault();
    },
    onDrop: (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      depth.current = 0;
      isOver.value = false;
      for (const file of event.dataTransfer?.files ?? []) onDrop(file);
    },
  };
  return { isOver: isOver.value, dropping };
}

function holdsFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes("Files") ?? false;
}
