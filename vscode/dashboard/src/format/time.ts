/** Times and spans for people. All times are seconds since the Unix epoch. */

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

/** A span, as `8 s`, `4:07` or `1:02:33`. */
export function formatSpan(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < MINUTE) return `${whole} s`;
  const hours = Math.floor(whole / HOUR);
  const minutes = Math.floor((whole % HOUR) / MINUTE);
  const rest = String(whole % MINUTE).padStart(2, "0");
  return hours === 0 ? `${minutes}:${rest}` : `${hours}:${String(minutes).padStart(2, "0")}:${rest}`;
}

/** How long ago a time was, as `just now`, `5 min ago` or `3 days ago`. */
export function formatAgo(time: number, now: number): string {
  const seconds = now - time;
  if (seconds < MINUTE) return "just now";
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ago`;
  const days = Math.floor(seconds / DAY);
  return days === 1 ? "yesterday" : `${days} days ago`;
}

/** The time of day, as `14:03:59`. */
export function formatClock(time: number): string {
  const date = new Date(time * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}

/** Date and time of day in full, for hints. */
export function formatDate(time: number): string {
  return new Date(time * 1000).toLocaleString();
}
