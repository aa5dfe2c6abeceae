/** What surrounds the dashboard: a browser, or an editor. */
export interface Host {
  /** Calls the listener with whether dark colours are wanted, now and at each change. */
  onTheme(listener: (dark: boolean) => void): void;
  /** Puts a text on the clipboard; rejects when that is not allowed. */
  copy(text: string): Promise<void>;
  /** Keeps a text as a file of the person's choosing. */
  saveFile(name: string, text: string): void;
  /** Fetches what the server has at a path, such as `api/jobs/1/file`, and keeps it as a file. */
  download(path: string): void;
  /** The id of the session that was picked before the page was last left, if any. */
  readSelection(): string | null;
  writeSelection(session: string | null): void;
  /** Calls the listener when the selection is changed from outside, as by editing the address. */
  onSelection(listener: (session: string | null) => void): void;
}
