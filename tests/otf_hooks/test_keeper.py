"""The checkpoints of a session: written in the background, kept in a ring, pinned outside it."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from pathlib import Path

import pytest
import torch
from otf_hooks import checkpoint
from otf_hooks.errors import CheckpointError, NotPossible
from otf_hooks.keeper import CheckpointKeeper
from otf_hooks.snapshot import Snapshot
from otf_session.events import CheckpointFailed, CheckpointRemoved, CheckpointSaved

from ..helpers.waiting import wait_for


class Desk:
    """A keeper, and what it has recorded and said."""

    def __init__(self, session, *, folder=None, keep=3, known=()):
        self.session = session
        self.folder = folder or session / "checkpoints"
        self.events, self.warnings = [], []
        self.keeper = CheckpointKeeper(
            session=session,
            folder=self.folder,
            keep=keep,
            known=list(known),
            record=self.events.append,
            warn=self.warnings.append,
        )

    def save(self, step, label="periodic", *, run="baseline", state=None, **options):
        snapshot = Snapshot({"step": step} if state is None else state)
        self.keeper.save(snapshot, run=run, step=step, epoch=1, label=label, **options)
        self.keeper.flush()
        return self.events[-1]

    def kept(self, run=None):
        return [saved.id for saved in self.keeper.kept(run)]

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "session")
    yield desk
    desk.keeper.close()


# Writing


def test_what_is_saved_is_on_disk_with_its_size_and_digest(desk):
    saved = desk.save(7, "mine", state={"weight": torch.ones(3)}, pinned=True)
    assert (saved.run, saved.step, saved.epoch, saved.label) == ("baseline", 7, 1, "mine")
    assert saved.id == "baseline@7-mine"
    assert saved.pinned
    path = desk.keeper.path(saved)
    assert path == desk.session / saved.path
    assert saved.size == path.stat().st_size
    assert saved.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(checkpoint.load(path, saved.sha256)["weight"], torch.ones(3))


def test_the_training_thread_does_not_wait_and_is_told_in_another(desk):
    told = []

    class Slow(Snapshot):
        def wait(self):
            # As long as the training thread has not gone on, it is not written.
            assert gone_on.wait(10)
            return super().wait()

    gone_on = threading.Event()
    for step in (1, 2):
        desk.keeper.save(
            Slow({"step": step}),
            run="r",
            step=step,
            epoch=1,
            label="periodic",
            done=lambda saved: told.append((saved.step, threading.current_thread())),
        )
        assert desk.keeper.is_busy
    assert told == []
    gone_on.set()
    desk.keeper.flush()
    assert not desk.keeper.is_busy
    assert [step for step, _ in told] == [1, 2]
    assert threading.current_thread() not in [thread for _, thread in told]


def test_the_copy_is_let_go_as_soon_as_it_is_written(desk):
    # One that is kept until the next save costs the whole state's memory all the time.
    snapshot = Snapshot({"weight": torch.ones(3)})
    alive = weakref.ref(snapshot)
    desk.keeper.save(snapshot, run="baseline", step=1, epoch=1, label="periodic")
    del snapshot
    desk.keeper.flush()
    wait_for(lambda: alive() is None, "the copy is let go")
    assert alive() is None


def test_who_is_told_finds_it_on_disk_and_in_the_record(desk):
    found = []

    def done(saved):
        found.append((desk.keeper.path(saved).exists(), saved in desk.events))

    desk.save(1, done=done)
    assert found == [(True, True)]


def test_close_writes_what_waits_and_ends_the_thread(desk):
    before = threading.active_count()
    for step in range(3):
        desk.keeper.save(Snapshot({"step": step}), run="r", step=step, epoch=1, label="x")
    desk.keeper.close()
    assert [event.step for event in desk.of(CheckpointSaved)] == [0, 1, 2]
    assert threading.active_count() == before
    desk.keeper.close()


def test_no_thread_before_the_first_checkpoint(tmp_path):
    before = threading.active_count()
    keeper = Desk(tmp_path).keeper
    keeper.flush()
    keeper.close()
    assert threading.active_count() == before


def test_it_reminds_again_and_again_and_writes_between(tmp_path):
    desk = Desk(tmp_path)
    reminded = []
    desk.keeper.remind(0.01, lambda: reminded.append(threading.current_thread()))
    try:
        wait_for(lambda: len(reminded) >= 3, "three reminders")
        assert desk.save(1).step == 1
        count = len(reminded)
        wait_for(lambda: len(reminded) > count, "a reminder after a checkpoint")
    finally:
        desk.keeper.close()
    assert threading.current_thread() not in reminded


# What is kept


def test_a_run_keeps_the_newest_few_and_all_that_are_pinned(desk):
    desk.save(0, "initial")
    desk.save(1, "mine", pinned=True)
    for step in range(2, 8):
        desk.save(step)
    desk.save(7, "final")
    assert desk.kept() == [
        "baseline@0-initial",
        "baseline@1-mine",
        "baseline@5-periodic",
        "baseline@6-periodic",
        "baseline@7-periodic",
        "baseline@7-final",
    ]
    assert len(desk.files()) == 6
    assert [event.id for event in desk.of(CheckpointRemoved)] == [
        "baseline@2-periodic",
        "baseline@3-periodic",
        "baseline@4-periodic",
    ]
    assert {event.reason for event in desk.of(CheckpointRemoved)} == {"3 newer ones are kept"}


@pytest.mark.parametrize("label", ["initial", "best", "final"])
def test_what_the_product_needs_is_pinned_by_itself(desk, label):
    assert desk.save(1, label).pinned


def test_a_checkpoint_that_another_run_grew_from_stays(desk):
    parent = desk.save(1)
    desk.keeper.pin(parent)
    for step in range(2, 8):
        desk.save(step)
    assert parent.id in desk.kept()
    assert desk.keeper.path(parent).is_file()
    assert [event.pinned for event in desk.of(CheckpointSaved) if event.id == parent.id] == [
        False,
        True,
    ]


def test_each_run_has_a_ring_of_its_own(desk):
    for step in range(1, 5):
        desk.save(step, run="baseline")
        desk.save(step, run="other")
    assert [saved.step for saved in desk.keeper.kept("baseline")] == [2, 3, 4]
    assert [saved.step for saved in desk.keeper.kept("other")] == [2, 3, 4]


def test_only_the_best_of_a_run_is_kept(desk):
    desk.save(1, "best")
    desk.save(2, "best", run="other")
    desk.save(3, "best")
    assert desk.kept() == ["other@2-best", "baseline@3-best"]
    (removed,) = desk.of(CheckpointRemoved)
    assert (removed.id, removed.reason) == ("baseline@1-best", "baseline@3-best is better")


def test_what_another_process_saved_counts_too(desk, tmp_path):
    for step in (1, 2, 3):
        desk.save(step)
    known = desk.of(CheckpointSaved)
    later = Desk(desk.session, known=known)
    try:
        later.save(4)
        assert [saved.step for saved in later.keeper.kept()] == [2, 3, 4]
        assert not later.keeper.path(known[0]).exists()
    finally:
        later.keeper.close()


def test_a_file_that_is_gone_already_is_no_trouble(desk):
    first = desk.save(1)
    desk.keeper.path(first).unlink()
    for step in (2, 3, 4):
        desk.save(step)
    assert [saved.step for saved in desk.keeper.kept()] == [2, 3, 4]
    assert desk.warnings == []


def test_after_a_rewind_the_same_step_has_an_id_and_a_file_of_its_own(desk):
    first, second, third = (desk.save(5, "mine", pinned=True) for _ in range(3))
    assert [first.id, second.id, third.id] == [
        "baseline@5-mine",
        "baseline@5-mine-2",
        "baseline@5-mine-3",
    ]
    assert len({saved.path for saved in (first, second, third)}) == 3
    assert len(desk.files()) == 3


def test_a_run_whose_name_is_no_file_name_gets_one(desk):
    saved = desk.save(1, run="a/b: c", pinned=True)
    other = desk.save(1, run="a:b/ c", pinned=True)
    assert desk.folder in desk.keeper.path(saved).parents
    assert [path.name for path in desk.folder.iterdir() if path.is_dir()] == []
    assert saved.path != other.path
    assert desk.keeper.find("a/b: c@1", "baseline") == saved
    assert desk.keeper.find("a:b/ c@1", "baseline") == other


def test_a_folder_elsewhere_is_kept_as_it_is(tmp_path):
    desk = Desk(tmp_path / "session", folder=tmp_path / "elsewhere")
    try:
        saved = desk.save(1)
        assert saved.path == (tmp_path / "elsewhere" / "baseline-00000001-periodic.pt").as_posix()
        assert desk.keeper.path(saved).exists()
    finally:
        desk.keeper.close()


# Finding


@pytest.fixture
def kept(desk):
    for run in ("baseline", "other"):
        desk.save(0, "initial", run=run)
        desk.save(5, "mine", run=run, pinned=True)
        desk.save(5, "mine", run=run, pinned=True)
        desk.save(8, "best", run=run)
    return desk


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("baseline@5-mine", "baseline@5-mine"),
        ("other@5-mine-2", "other@5-mine-2"),
        ("baseline@0", "baseline@0-initial"),
        ("other@mine", "other@5-mine-2"),
        ("other@latest", "other@8-best"),
        ("latest", "baseline@8-best"),
        ("initial", "baseline@0-initial"),
        ("best", "baseline@8-best"),
        ("mine", "baseline@5-mine-2"),
        ("5", "baseline@5-mine-2"),
    ],
)
def test_a_checkpoint_has_several_names(kept, name, wanted):
    assert kept.keeper.find(name, "baseline").id == wanted


@pytest.mark.parametrize("name", ["", "7", "baseline@7", "nobody@5", "other@", "yours", "@", "@@"])
def test_what_is_not_there_is_refused_with_what_is(kept, name):
    with pytest.raises(NotPossible) as caught:
        kept.keeper.find(name, "baseline")
    assert str(caught.value).startswith(f"There is no checkpoint '{name}'. Kept are: ")
    for listed in ("baseline@5-mine", "other@8-best"):
        assert listed in str(caught.value)


def test_where_there_is_none_that_is_said(desk):
    with pytest.raises(NotPossible, match=r"Kept are: none yet\."):
        desk.keeper.find("initial", "baseline")


def test_the_newest_before_a_step(kept):
    assert kept.keeper.before("baseline", 9).id == "baseline@8-best"
    assert kept.keeper.before("baseline", 8).id == "baseline@5-mine-2"
    assert kept.keeper.before("baseline", 1).id == "baseline@0-initial"
    assert kept.keeper.before("baseline", 0) is None
    assert kept.keeper.before("nobody", 9) is None


# Faults


def test_a_folder_that_cannot_be_written_costs_a_warning_once(tmp_path):
    (tmp_path / "file").write_text("")
    desk = Desk(tmp_path, folder=tmp_path / "file")
    told = []
    try:
        for step in (1, 2):
            failed = desk.save(step, "mine", done=told.append)
            assert isinstance(failed, CheckpointFailed)
            assert (failed.step, failed.label) == (step, "mine")
            assert "could not be written" in failed.reason
        assert told == [event.reason for event in desk.of(CheckpointFailed)]
        (warning,) = desk.warnings
        assert warning.endswith("Training goes on without it.")
        assert desk.kept() == []
        # Once there is room again, the next failure is said again.
        (tmp_path / "file").unlink()
        assert isinstance(desk.save(3), CheckpointSaved)
        for path in desk.folder.iterdir():
            path.unlink()
        desk.folder.rmdir()
        (tmp_path / "file").write_text("")
        desk.save(4)
        assert len(desk.warnings) == 2
    finally:
        desk.keeper.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is Linux's to offer")
def test_a_full_disk_leaves_the_old_checkpoints_and_no_half_one(desk, monkeypatch):
    desk.save(1)
    real = os.fdopen

    def on_a_full_disk(descriptor, mode):
        os.close(descriptor)
        return Path("/dev/full").open(mode)

    monkeypatch.setattr(os, "fdopen", on_a_full_disk)
    failed = desk.save(2, state={"weight": torch.ones(100_000)})
    assert isinstance(failed, CheckpointFailed)
    assert desk.files() == ["baseline-00000001-periodic.pt"]
    monkeypatch.setattr(os, "fdopen", real)
    assert isinstance(desk.save(3), CheckpointSaved)
    assert [saved.step for saved in desk.keeper.kept()] == [1, 3]


@pytest.mark.parametrize("error", [MemoryError("no memory"), ValueError("odd"), RuntimeError("no")])
def test_whatever_goes_wrong_the_next_one_is_written(desk, error):
    class Broken(Snapshot):
        def wait(self):
            raise error

    told = []
    desk.keeper.save(Broken({}), run="baseline", step=1, epoch=1, label="mine", done=told.append)
    desk.keeper.save(Snapshot({"step": 2}), run="baseline", step=2, epoch=1, label="mine")
    wait_for(lambda: not desk.keeper.is_busy, "both checkpoints")
    failed, saved = desk.events
    assert isinstance(failed, CheckpointFailed)
    assert str(error) in failed.reason
    assert told == [failed.reason]
    assert (type(saved), saved.step) == (CheckpointSaved, 2)


def test_a_damaged_or_missing_file_is_named_when_it_is_read(desk):
    saved = desk.save(1)
    path = desk.keeper.path(saved)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        checkpoint.load(path, saved.sha256)
    path.unlink()
    with pytest.raises(CheckpointError, match="no longer there"):
        checkpoint.load(path, saved.sha256)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)
    torch.save({"format": 99}, path)
    with pytest.raises(CheckpointError, match=r"has the format 99; this version reads format"):
        checkpoint.load(path)
