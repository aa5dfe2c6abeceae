/** At least this often something that has changed is shown, even by a page in the background. */
const BACKGROUND_MS = 500;

/** Runs `draw` at most once a frame, however often it is asked for. */
export function createPacer(draw: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let frame = 0;
  const run = (): void => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    timer = undefined;
    draw();
  };
  return () => {
    if (timer !== undefined) return;
    // A hidden page gets no animation frames, but its title still tells the state.
    timer = setTimeout(run, BACKGROUND_MS);
    frame = requestAnimationFrame(run);
  };
}
