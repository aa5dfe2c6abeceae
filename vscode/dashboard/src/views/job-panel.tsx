import { jobProgress, jobTitle, remarks, resultText } from "../format/job";
import { fileOf, isUnderWay, shareOf, type ShownJob } from "../store/jobs";
import { useApp, useDashboard } from "./context";
import { CrossIcon } from "./icons";

/** The long work that goes on beside whatever is looked at, and what came of it until it is read. */
export function JobPanel() {
  const dashboard = useDashboard();
  const jobs = dashboard.jobs.all();
  return (
    <section class="jobs" aria-label="Work in progress">
      {jobs.map((job) => (
        <JobEntry key={job.key} job={job} />
      ))}
    </section>
  );
}

function JobEntry(props: { job: ShownJob }) {
  const { job } = props;
  const dashboard = useDashboard();
  return (
    <div class="job" data-testid="job" data-kind={job.kind} data-state={job.state}>
      <div class="job-head">
        <span class="job-title" title={job.name}>
          {jobTitle(job)} <strong>{job.name}</strong>
        </span>
        {!isUnderWay(job) && (
          <button
            type="button"
            class="icon-button"
            data-testid="job-dismiss"
            aria-label="Dismiss"
            onClick={() => dashboard.jobs.dismiss(job.key)}
          >
            <CrossIcon />
          </button>
        )}
      </div>
      {isUnderWay(job) ? <JobBar job={job} /> : <JobOutcome job={job} />}
    </div>
  );
}

/** How far a job is, with a way to break it off. */
export function JobBar(props: { job: ShownJob }) {
  const { job } = props;
  const dashboard = useDashboard();
  const share = shareOf(job);
  return (
    <div class="job-bar">
      <progress
        aria-label={`${jobTitle(job)} ${job.name}`}
        data-testid="job-progress"
        {...(share === null ? {} : { value: share, max: 1 })}
      />
      <span class="job-amount">{jobProgress(job)}</span>
      {job.kind !== "delete" && (
        <button
          type="button"
          class="text-button"
          data-testid="job-cancel"
          disabled={job.isCancelling}
          onClick={() => dashboard.jobs.cancel(job.key)}
        >
          Cancel
        </button>
      )}
    </div>
  );
}

/** What became of a job, and what can be done with it. */
export function JobOutcome(props: { job: ShownJob }) {
  const { job } = props;
  const { dashboard, host } = useApp();
  const file = fileOf(job);
  const { result, again } = job;
  if (job.state === "failed") {
    return (
      <>
        <p class="job-error" role="alert" data-testid="job-error">
          {job.error}
        </p>
        {again && (
          <button
            type="button"
            class="button"
            data-testid="job-as-new"
            onClick={() => {
              dashboard.jobs.dismiss(job.key);
              dashboard.jobs.import(again, true);
            }}
          >
            Import as a new session
          </button>
        )}
      </>
    );
  }
  if (!result) return null;
  return (
    <>
      <p class="job-result" role="status" data-testid="job-result" data-ok={isFine(job)}>
        {resultText(result)}
      </p>
      <Remarks remarks={remarks(result)} />
      {file !== null && (
        <button
          type="button"
          class="button button-primary"
          data-testid="job-download"
          onClick={() => host.download(file)}
        >
          Download
        </button>
      )}
      {result.kind === "import" && (
        <button
          type="button"
          class="button"
          data-testid="job-show"
          onClick={() => {
            dashboard.pick(result.session);
            dashboard.jobs.dismiss(job.key);
          }}
        >
          Show it
        </button>
      )}
    </>
  );
}

function isFine({ result }: ShownJob): boolean {
  return result?.kind !== "verify" || result.ok;
}

function Remarks(props: { remarks: readonly string[] }) {
  if (props.remarks.length === 0) return null;
  return (
    <ul class="job-remarks" data-testid="job-remarks">
      {props.remarks.map((remark) => (
        <li key={remark}>{remark}</li>
      ))}
    </ul>
  );
}
