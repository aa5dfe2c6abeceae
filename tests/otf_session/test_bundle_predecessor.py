import json
import os
import sqlite3

import pytest
from otf_session.bundles.importer import import_bundle
from otf_session.bundles.verifier import verify
from otf_session.errors import BundleRefused, BundleTooNew, NotImported, NotVerified
from otf_session.events import (
    CheckpointSaved,
    DeterminismAssessed,
    EpochStarted,
    EvaluationFinished,
    LogLine,
    Metrics,
    NoteAdded,
    RunStarted,
)
from otf_session.home import Home
from otf_session.queries import kept_checkpoints, run_summaries
from otf_session.resume import find_order, parse_target
from otf_session.store import SessionReader

from ..helpers.bundles import contents, moments_cancelled, tree
from ..helpers.predecessor import describe, predecessor
from ..helpers.sessions import RUN, stored
from ..helpers.torchfiles import checkpoint, hostile


@pytest.fixture
def bundle(tmp_path):
    return predecessor(tmp_path / "bundle")


@pytest.fixture
def target(tmp_path):
    target = Home(tmp_path / "outer" / "home")
    target.ensure()
    return target


def imported(target, bundle, kind=None):
    """What was imported, and its events."""
    made = import_bundle(target, bundle)

    class Store:
        folder = target.sessions / made.session

    events = stored(Store)
    return made, [event for event in events if kind is None or isinstance(event, kind)]


def refused(target, bundle, kind=BundleRefused):
    before = tree(target.path.parent)
    with pytest.raises(kind) as caught:
        import_bundle(target, bundle)
    assert tree(target.path.parent) == before
    assert str(bundle) in str(caught.value)
    return str(caught.value)


def test_runs_arrive_with_all_their_parents_and_names_of_their_own(target, bundle):
    made, events = imported(target, bundle, RunStarted)
    assert (made.project, made.runs) == ("digits", [RUN, f"{RUN}-2", "merge1"])
    assert [(event.run, event.parents, event.time) for event in events] == [
        (RUN, [], 1_700_000_000.0),
        (f"{RUN}-2", [RUN], 1_700_000_010.0),
        ("merge1", [RUN, f"{RUN}-2"], 1_700_000_020.0),
    ]
    with SessionReader(target.sessions / made.session) as reader:
        runs = {run.name: run for run in run_summaries(reader.database)}
    assert (runs[RUN].step, runs[RUN].epoch, runs[RUN].state.value) == (4, 2, "stopped")
    assert runs[RUN].latest == {"loss": 0.25, "lr": 0.5, "val_loss": 0.75}


def test_metrics_arrive_in_columns_and_what_is_infinite_is_not_finite(target, bundle):
    _, events = imported(target, bundle, (Metrics, EpochStarted))
    own = [event for event in events if event.run == RUN]
    assert own == [
        EpochStarted(time=1_700_000_000.01, run=RUN, epoch=1, step=0),
        metrics([1], loss=[1.0], lr=[0.5]),
        metrics([2], loss=[0.5], lr=[0.5], val_loss=[0.75]),
        EpochStarted(time=1_700_000_000.03, run=RUN, epoch=2, step=2),
        metrics([3, 4], loss=[None, 0.25], lr=[0.5, 0.5]),
    ]


def metrics(steps, **values):
    times = [1_700_000_000 + step / 100 for step in steps]
    return Metrics(run=RUN, steps=steps, times=times, values=values)


def test_log_and_tests_arrive(target, bundle):
    _, events = imported(target, bundle, (LogLine, EvaluationFinished))
    assert [
        (e.run, e.step, e.level, e.logger, e.text) for e in events if isinstance(e, LogLine)
    ] == [
        ("", 0, 20, "info", "of the session"),
        (RUN, 3, 30, "train", "careful"),
    ]
    (test,) = [event for event in events if isinstance(event, EvaluationFinished)]
    assert (test.run, test.step, test.split, test.values) == (RUN, 4, "test", {"test_loss": 0.25})


def test_checkpoints_arrive_and_can_be_continued_but_not_exactly(target, bundle):
    made, events = imported(target, bundle, CheckpointSaved)
    assert made.checkpoints == 3
    assert [(e.id, e.step, e.epoch, e.label, e.pinned) for e in events] == [
        (f"{RUN}@2-periodic", 2, 1, "periodic", True),
        (f"{RUN}@4-periodic", 4, 2, "periodic", True),
        (f"{RUN}-2@6-final", 6, 3, "final", True),
    ]
    assert any("continued" in note and "not exactly" in note for note in made.notes)
    order = find_order(target, parse_target(f"latest:{RUN}"))
    assert order.checkpoint == f"{RUN}@4-periodic"
    folder = target.sessions / made.session
    assert contents(folder)[events[0].path] == checkpoint(step="c1")
    assert verify(target, made.session).ok


def test_that_going_on_is_not_exact_is_in_the_record(target, bundle):
    _, events = imported(target, bundle, DeterminismAssessed)
    assert [(event.run, event.exact) for event in events] == [(RUN, False), (f"{RUN}-2", False)]


def test_the_samples_that_a_run_was_trained_on_are_kept_as_a_note(target, bundle):
    _, events = imported(target, bundle, NoteAdded)
    assert [(event.run, event.step, event.text) for event in events] == [
        (f"{RUN}-2", 0, "Trained on a subset of 2 samples: 1, 2.")
    ]


def change(bundle, statement, *values):
    connection = sqlite3.connect(str(bundle / "runs.sqlite"))
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_a_report_is_kept_in_short(target, bundle):
    change(
        bundle,
        "UPDATE report_loss_dist SET losses = ?, sample_indices = ?, note = ?",
        *("[0.5, 4.5, null, 1]", "[10, 11, 12, 13]", "Look at 11."),
    )
    made, events = imported(target, bundle, NoteAdded)
    (report,) = [event for event in events if event.run == RUN]
    assert (report.step, report.time) == (4, 1_700_000_000.0)
    assert report.text == (
        "Losses of 4 samples (train): mean 2, median 1, highest 4.5; not finite: 1. "
        "Highest at the samples 11, 13, 10, 12. Look at 11."
    )
    assert "Of 1 report a summary is kept, as a note." in made.notes


def test_what_is_cut_short_or_cannot_be_read_is_said(target, bundle):
    change(bundle, "UPDATE run_subsets SET indices = ?", json.dumps(list(range(500))))
    made, events = imported(target, bundle, NoteAdded)
    (subset,) = events
    assert subset.text.startswith("Trained on a subset of 500 samples: 0, 1, 2,")
    assert subset.text.endswith(", 199 and 300 more.")
    assert made.notes[1:] == [
        "Of 1 long subset of samples the beginning is kept.",
        "Not taken over: 1 empty or unreadable list of samples.",
    ]


@pytest.mark.parametrize("text", [None, b"\xff", "{", '["x"]', "[" * 100_000, "[1e999]", "[NaN]"])
def test_lists_that_are_none_are_left_out(target, bundle, text):
    change(bundle, "UPDATE run_subsets SET indices = ?", text)
    change(bundle, "UPDATE report_loss_dist SET losses = ?, sample_indices = ?", text, text)
    made, events = imported(target, bundle, NoteAdded)
    assert events == []
    assert "Not taken over: 2 empty or unreadable lists of samples." in made.notes


def test_its_session_gets_an_id_of_its_own_each_time(target, bundle):
    one, other = (import_bundle(target, bundle) for _ in range(2))
    assert one.session != other.session
    assert [folder.name for folder in target.session_folders()] == [one.session, other.session]


def test_nothing_in_the_bundle_is_changed(target, bundle):
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    import_bundle(target, bundle)
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def test_a_checkpoint_that_would_run_something_is_left_out_and_not_executed(target, tmp_path):
    mark = tmp_path / "executed"
    bundle = predecessor(tmp_path / "bundle", c1=hostile(f"touch {mark}"), c2=b"no file of torch")
    made, events = imported(target, bundle, CheckpointSaved)
    assert [event.step for event in events] == [6]
    assert not mark.exists()
    assert sum("is left out" in note for note in made.notes) == 2
    assert any("system" in note for note in made.notes)


@pytest.mark.parametrize(
    "path",
    ["../secret.pt", "checkpoints/../../secret.pt", "..\\secret.pt", "", "x\0", "missing.pt"],
)
def test_a_checkpoint_outside_the_folder_is_left_out(target, bundle, tmp_path, path):
    (tmp_path / "secret.pt").write_bytes(checkpoint())
    describe(bundle, checkpoints={"c1": path})
    made, events = imported(target, bundle, CheckpointSaved)
    assert [event.label for event in events] == ["final"]
    assert any("it is not in the folder" in note for note in made.notes)


@pytest.mark.parametrize("path", ["/elsewhere/c1.pt", "C:\\elsewhere\\c1.pt"])
def test_an_absolute_path_means_the_file_of_that_name_in_the_bundle(target, bundle, path):
    describe(bundle, checkpoints={"c1": path}, final_models={})
    made, _ = imported(target, bundle)
    assert made.checkpoints == 1


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
@pytest.mark.parametrize("name", ["checkpoints/c1.pt", "runs.sqlite"])
def test_a_link_out_of_the_folder_is_not_followed(target, bundle, tmp_path, name):
    away = tmp_path / "away"
    (bundle / name).rename(away)
    (bundle / name).symlink_to(away)
    if name == "runs.sqlite":
        assert "not in the folder" in refused(target, bundle)
    else:
        assert imported(target, bundle)[0].checkpoints == 2


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({"schema_version": "2.0"}, BundleTooNew, "format 2.0"),
        ({"schema_version": 1}, BundleRefused, "bundle.json is none"),
        ({"sqlite": "../runs.sqlite"}, BundleRefused, "not in the folder"),
        ({"sqlite": "missing"}, BundleRefused, "not in the folder"),
        ({"sqlite": "bundle.json"}, BundleRefused, "database"),
        ({"sqlite": "checkpoints/c1.pt"}, BundleRefused, "database"),
    ],
)
def test_a_bundle_that_cannot_be_read_is_refused(target, bundle, changes, kind, why):
    describe(bundle, **changes)
    assert why in refused(target, bundle, kind)


@pytest.mark.parametrize("text", ["", "[]", "{", "\0", "[" * 100_000])
def test_a_bundle_json_that_is_none_is_refused(target, bundle, text):
    (bundle / "bundle.json").write_text(text)
    assert "bundle.json is none" in refused(target, bundle)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE metrics",
        "ALTER TABLE runs RENAME TO more; CREATE VIEW runs AS SELECT * FROM more",
    ],
)
def test_a_database_without_its_tables_is_refused(target, bundle, statement):
    connection = sqlite3.connect(str(bundle / "runs.sqlite"))
    connection.executescript(statement)
    connection.close()
    assert "none of OnTheFly" in refused(target, bundle)


def test_rows_that_are_not_what_they_should_be_are_taken_for_what_they_can_be(target, bundle):
    connection = sqlite3.connect(str(bundle / "runs.sqlite"))
    connection.executescript(
        """
        INSERT INTO run_edges VALUES ('r1', 'r3');
        UPDATE runs SET created_at = 'x', project = NULL, name = NULL WHERE run_id = 'r2';
        INSERT INTO metrics (run_id, step, epoch, loss, ts) VALUES ('r1', 'x', -1, 'y', 1e300);
        INSERT INTO metrics (run_id, step, epoch, loss, ts) VALUES ('r1', 1e300, NULL, 1.0, NULL);
        INSERT INTO logs (run_id, level, text, step) VALUES ('r1', x'00', 5, 'z');
        UPDATE checkpoints SET step = -4, created_at = 'x' WHERE ckpt_id = 'c1';
        """
    )
    connection.close()
    made, _ = imported(target, bundle)
    assert verify(target, made.session).ok
    assert sorted(made.runs) == [RUN, "merge1", "r2"]
    with SessionReader(target.sessions / made.session) as reader:
        assert len(kept_checkpoints(reader.database)) == 3


def test_columns_and_tables_that_it_does_not_have_are_no_obstacle(target, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    connection = sqlite3.connect(str(bundle / "runs.sqlite"))
    connection.executescript(
        """
        CREATE TABLE runs (run_id TEXT, name TEXT);
        CREATE TABLE metrics (run_id TEXT, step INTEGER, loss REAL);
        INSERT INTO runs VALUES ('r', 'baseline');
        INSERT INTO metrics VALUES ('r', 1, 0.5);
        """
    )
    connection.close()
    (bundle / "bundle.json").write_text(json.dumps({"schema_version": "1.0"}))
    made, events = imported(target, bundle, Metrics)
    assert [event.values for event in events] == [{"loss": [0.5]}]
    assert made.notes == []


def test_an_import_that_is_cancelled_at_any_moment_leaves_nothing(target, bundle):
    assert moments_cancelled(target, bundle) > 5


def test_what_cannot_be_verified_says_so(target, bundle):
    with pytest.raises(NotVerified, match="otf session import"):
        verify(target, str(bundle))


def test_a_folder_that_cannot_be_read_is_an_error(target, bundle, monkeypatch):
    def denied(*words, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.copyfile", denied)
    assert "Permission denied" in refused(target, bundle, NotImported)
