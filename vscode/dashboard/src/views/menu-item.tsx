/** An entry of a menu: what it does, or why it cannot be done now. */
export function MenuItem(props: {
  testid: string;
  label: string;
  hint: string;
  why: string | null;
  onClick: () => void;
}) {
  const { why } = props;
  return (
    <button
      type="button"
      class="menu-item"
      data-testid={props.testid}
      disabled={why !== null}
      title={why ?? undefined}
      onClick={props.onClick}
    >
      <span class="menu-label">{props.label}</span>
      <span class="menu-hint">{why ?? props.hint}</span>
    </button>
  );
}
