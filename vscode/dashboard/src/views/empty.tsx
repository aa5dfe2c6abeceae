import { connectionProblem } from "./connection";
import { CopyButton } from "./copy-button";
import { useDashboard } from "./context";
import { ImportButton } from "./import-button";

/** Where a session would be: that it is being read, or how to begin one. */
export function NoSession() {
  const dashboard = useDashboard();
  if (dashboard.problem !== null) {
    return <p class="waiting">The session could not be read: {dashboard.problem} Trying again.</p>;
  }
  if (!dashboard.isWelcomed || dashboard.selected !== null) {
    return <p class="waiting">{connectionProblem(dashboard) ?? "Loading\u2026"}</p>;
  }
  return <FirstSteps />;
}

const SNIPPET = `from onthefly import Trainer

trainer = Trainer(
    project="my-project",
    run_name="baseline",
    max_epochs=10,
)
trainer.fit(
    model=model,
    optimizer=optimizer,
    loss_fn=loss_fn,
    train_loader=train_loader,
    val_loader=val_loader,
)`;

/** What to do when there is no session at all. */
function FirstSteps() {
  return (
    <section class="empty">
      <h1>No sessions yet</h1>
      <p>
        Add these lines to your training script and start it as you always do. It shows up here by
        itself.
      </p>
      <Snippet title="PyTorch" code={SNIPPET} />
      <Snippet title="Or see it work first, in a terminal" code="otf demo" />
      <p class="empty-import">
        A session that was exported elsewhere is a file, <code>.otf.zip</code>: drop it here, or{" "}
        <ImportButton class="text-button" testid="import-first">
          choose it
        </ImportButton>
      </p>
    </section>
  );
}

function Snippet(props: { title: string; code: string }) {
  return (
    <figure class="snippet">
      <figcaption>
        {props.title}
        <CopyButton text={props.code} />
      </figcaption>
      <pre>
        <code>{props.code}</code>
      </pre>
    </figure>
  );
}
