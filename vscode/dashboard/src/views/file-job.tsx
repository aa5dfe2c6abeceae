import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { jobTitle } from "../format/job";
import { isUnderWay, type ShownJob } from "../store/jobs";
import { useDashboard } from "./context";
import { Dialog, DialogForm } from "./dialog";
import { JobBar, JobOutcome } from "./job-panel";

/** A dialog that asks for a file, then shows how far it is, and then offers it. */
export function FileJobDialog(props: {
  title: string;
  testid: string;
  submit: string;
  onClose: () => void;
  /** Ask for it; returns what the job is known by. */
  onSubmit: () => string;
  children: ComponentChildren;
}) {
  const dashboard = useDashboard();
  const key = useSignal<string | null>(null);
  // One that is cancelled or dismissed is there no more: then it may be asked for anew.
  const job = key.value === null ? undefined : dashboard.jobs.get(key.value);
  const why = dashboard.connection.value.kind === "open" ? null : "There is no connection to the server.";
  return (
    <Dialog title={props.title} testid={props.testid} onClose={props.onClose}>
      {job ? (
        <Going job={job} onClose={props.onClose} />
      ) : (
        <DialogForm
          submit={props.submit}
          testid={props.testid}
          why={why}
          onCancel={props.onClose}
          onSubmit={() => {
            key.value = props.onSubmit();
            return null;
          }}
        >
          {props.children}
        </DialogForm>
      )}
    </Dialog>
  );
}

function Going(props: { job: ShownJob; onClose: () => void }) {
  const { job } = props;
  return (
    <div class="job-going" data-testid="job-going" data-state={job.state}>
      <p>
        <strong>{jobTitle(job)}</strong> {job.name}
      </p>
      {isUnderWay(job) ? (
        <>
          <JobBar job={job} />
          <p class="field-hint">It goes on when this is closed.</p>
        </>
      ) : (
        <JobOutcome job={job} />
      )}
      <div class="dialog-buttons">
        <button type="button" class="button" data-testid="job-close" onClick={props.onClose}>
          Close
        </button>
      </div>
    </div>
  );
}
