import { formatExact } from "../format/number";
import { boundsText, fieldKey, type HyperparameterGroup } from "../store/hyperparameters";
import type { Hyperparameter } from "../wire/types";

interface Editing {
  /** By field key, what is typed. */
  texts: ReadonlyMap<string, string>;
  /** By field key, what is wrong with it. */
  problems: ReadonlyMap<string, string>;
  onEdit: (key: string, text: string) => void;
}

/** Every hyperparameter by its group, with its bounds and a place for a new value. */
export function HyperparameterTable(
  props: Editing & {
    groups: readonly HyperparameterGroup[];
    /** What was measured since: the learning rate may have moved. */
    latest: Readonly<Record<string, number | null>>;
  },
) {
  const { groups, latest } = props;
  return (
    <div class="table-scroll">
      <table class="table hyperparameters">
        <thead>
          <tr>
            <th>Name</th>
            <th class="number">Now</th>
            <th>New value</th>
          </tr>
        </thead>
        {groups.map(({ group, title, values }) => (
          <tbody key={group}>
            {groups.length > 1 && (
              <tr class="table-group">
                <th colSpan={3} scope="rowgroup">
                  {title}
                </th>
              </tr>
            )}
            {values.map((field) => (
              <Row
                key={fieldKey(field)}
                field={field}
                now={currentOf(field, latest)}
                texts={props.texts}
                problems={props.problems}
                onEdit={props.onEdit}
              />
            ))}
          </tbody>
        ))}
      </table>
    </div>
  );
}

function currentOf(
  { name, group, value }: Hyperparameter,
  latest: Readonly<Record<string, number | null>>,
): Hyperparameter["value"] {
  if (name !== "lr") return value;
  return latest[`lr/${group ?? 0}`] ?? latest.lr ?? value;
}

function Row(props: Editing & { field: Hyperparameter; now: Hyperparameter["value"] }) {
  const { field, now } = props;
  const key = fieldKey(field);
  const problem = props.problems.get(key);
  const bounds = boundsText(field);
  return (
    <tr data-testid="hyperparameter" data-name={field.name} data-group={field.group ?? ""}>
      <th scope="row">{field.name}</th>
      <td class="number" data-testid="hyperparameter-value">
        {formatExact(now)}
      </td>
      <td>
        <Input
          field={field}
          text={props.texts.get(key) ?? ""}
          isWrong={problem !== undefined}
          onEdit={(text) => props.onEdit(key, text)}
        />
        <span class="field-hint" data-wrong={problem !== undefined}>
          {problem ?? bounds}
        </span>
      </td>
    </tr>
  );
}

function Input(props: {
  field: Hyperparameter;
  text: string;
  isWrong: boolean;
  onEdit: (text: string) => void;
}) {
  const { field, text } = props;
  const label = `New value of ${field.name}`;
  if (typeof field.value === "boolean") {
    return (
      <select
        class="input"
        aria-label={label}
        data-testid="hyperparameter-input"
        value={text}
        onChange={(event) => props.onEdit(event.currentTarget.value)}
      >
        <option value="">as it is</option>
        <option value="true">true</option>
        <option value="false">false</option>
      </select>
    );
  }
  return (
    <input
      class="input"
      type="text"
      inputMode={typeof field.value === "number" ? "decimal" : "text"}
      autoComplete="off"
      spellcheck={false}
      placeholder="as it is"
      aria-label={label}
      aria-invalid={props.isWrong}
      data-testid="hyperparameter-input"
      value={text}
      onInput={(event) => props.onEdit(event.currentTarget.value)}
    />
  );
}
