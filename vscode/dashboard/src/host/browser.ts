import type { Host } from "./host";

/** A browser tab: its colour scheme, its downloads, and the address to keep the selection in. */
export class BrowserHost implements Host {
  onTheme(listener: (dark: boolean) => void): void {
    const query = window.matchMedia("(prefers-color-scheme: dark)");
    query.addEventListener("change", () => listener(query.matches));
    listener(query.matches);
  }

  copy(text: string): Promise<void> {
    return navigator.clipboard.writeText(text);
  }

  saveFile(name: string, text: string): void {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = name;
    link.click();
    // The download reads the blob after the click has returned.
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  download(path: string): void {
    const link = document.createElement("a");
    link.href = new URL(path, document.baseURI).href;
    // Its name is what the server says. With the attribute, an answer that is none replaces nothing.
    link.download = "";
    link.click();
  }

  readSelection(): string | null {
    return new URLSearchParams(location.hash.slice(1)).get("session");
  }

  writeSelection(session: string | null): void {
    const hash = session === null ? "" : `#${new URLSearchParams({ session }).toString()}`;
    history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
  }

  onSelection(listener: (session: string | null) => void): void {
    window.addEventListener("hashchange", () => listener(this.readSelection()));
  }
}
