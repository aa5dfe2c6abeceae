import type { CommandKind } from "../store/commands";
import type { DialogName } from "../store/dialogs";
import { useApp } from "./context";
import { ChevronIcon } from "./icons";
import { MenuItem } from "./menu-item";
import { Popover } from "./popover";
import type { Controlling } from "./use-controls";

interface Entry {
  label: string;
  hint: string;
  testid: string;
  /** The command that it asks for, at once or by a dialog. */
  kind: CommandKind;
  dialog?: DialogName;
  /** Whether its dialog has something to read even when nothing can be asked for. */
  isReadable?: true;
}

const GROUPS: { title: string; entries: Entry[] }[] = [
  {
    title: "Change",
    entries: [
      { kind: "set-hyperparameters", testid: "hyperparameters", dialog: "hyperparameters", isReadable: true, label: "Hyperparameters\u2026", hint: "See them, and change them" },
      { kind: "extend", testid: "extend", dialog: "extend", label: "Extend\u2026", hint: "More steps or epochs" },
      { kind: "note", testid: "note", dialog: "note", label: "Note\u2026", hint: "A remark at a step" },
    ],
  },
  {
    title: "Keep and go back",
    entries: [
      { kind: "save-checkpoint", testid: "save-checkpoint", dialog: "save-checkpoint", label: "Save checkpoint\u2026", hint: "The whole state, as it is now" },
      { kind: "load-checkpoint", testid: "checkpoints", dialog: "checkpoints", isReadable: true, label: "Checkpoints\u2026", hint: "What is kept; go back to it" },
      { kind: "reset", testid: "reset", dialog: "reset", label: "Reset\u2026", hint: "Begin again, as a new run" },
    ],
  },
  {
    title: "Check",
    entries: [
      { kind: "test", testid: "test", label: "Test", hint: "Live weights on the test data" },
      { kind: "validate", testid: "validate", label: "Validate", hint: "Live weights on validation data" },
      { kind: "health", testid: "health", dialog: "health", isReadable: true, label: "Health\u2026", hint: "What is wrong, and what to try" },
      { kind: "prove", testid: "prove", dialog: "prove", label: "Prove exactness\u2026", hint: "Train twice, compare every bit" },
    ],
  },
];

/** Everything that has no button of its own. */
export function MoreMenu(props: { controls: Controlling }) {
  const { controls } = props;
  const { dialogs } = useApp();
  const choose = ({ kind, dialog }: Entry): void => {
    if (dialog !== undefined) dialogs.show(dialog);
    else if (kind === "test" || kind === "validate") controls.ask({ kind });
  };
  return (
    <Popover
      label="More"
      testid="more"
      buttonClass="control control-more"
      button={
        <>
          More
          <ChevronIcon />
        </>
      }
    >
      {(close) => (
        <div class="menu-groups">
          {GROUPS.map(({ title, entries }) => (
            <section key={title} class="menu-group" aria-label={title}>
              <h3>{title}</h3>
              {entries.map((entry) => (
                <MenuItem
                  key={entry.testid}
                  testid={entry.testid}
                  label={entry.label}
                  hint={entry.hint}
                  why={entry.isReadable ? null : controls.why(entry.kind)}
                  onClick={() => {
                    close();
                    choose(entry);
                  }}
                />
              ))}
            </section>
          ))}
        </div>
      )}
    </Popover>
  );
}
