import mark from "../assets/mark.svg";
import { ConnectionStatus } from "./connection";
import { MenuIcon } from "./icons";

/** The product's name, how the page stands with the server and, on narrow pages, the menu. */
export function BrandBar(props: { isDrawerOpen: boolean; onToggle: () => void }) {
  return (
    <header class="brand">
      <button
        type="button"
        class="icon-button brand-menu"
        aria-label="Sessions"
        aria-expanded={props.isDrawerOpen}
        aria-controls="sessions"
        onClick={props.onToggle}
      >
        <MenuIcon />
      </button>
      <img class="brand-mark" src={mark} alt="" width="22" height="22" />
      <span class="brand-name">OnTheFly</span>
      <ConnectionStatus />
    </header>
  );
}
