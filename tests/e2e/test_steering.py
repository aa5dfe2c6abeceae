"""Steering from the page and the shell: each control does to the run what it says, and shows it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from otf_session.events import (
    CheckpointSaved,
    CommandChanged,
    LimitsChanged,
    NoteAdded,
    Rewound,
)
from otf_session.queries import events_after, session_summary
from otf_session.store import SessionReader

from .conftest import wait_until
from .test_line import state, step

pytestmark = pytest.mark.browser


def found(home, kind):
    with SessionReader(home.session_folder("latest")) as reader:
        return [e for e in events_after(reader.database, 0, 10_000_000) if isinstance(e, kind)]


def outcomes(home, name):
    return [
        event.outcome
        for event in found(home, CommandChanged)
        if event.outcome is not None and event.command.__struct_config__.tag == name
    ]


def ctl(port, *words):
    """`otf ctl`, as from a shell."""
    command = [sys.executable, "-m", "onthefly.cli", "ctl", *words, "--port", str(port), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def menu(page, name):
    page.get_by_test_id("more").click()
    page.get_by_test_id(name).click()


@pytest.fixture
def paused(page, processes, port, link, home):
    """The demo, paused in the midst of its training, and the page that shows it."""
    processes.demo(port)
    wait_until(lambda: home.token_file.exists() and home.session_folders(), "a session")
    page.goto(link())
    wait_until(lambda: state(page) == "running" and step(page) > 60, "training is under way")
    page.get_by_test_id("pause").click()
    wait_until(lambda: state(page) == "paused", "the pause")
    return step(page)


def test_run_for_so_many_steps_pauses_there(page, paused):
    page.get_by_test_id("run-for").click()
    page.get_by_test_id("run-for-amount").fill("40")
    page.get_by_test_id("run-for-confirm").click()
    wait_until(lambda: state(page) == "paused" and step(page) == paused + 40, "the next pause")


def test_a_checkpoint_is_saved_and_gone_back_to(page, paused, home):
    menu(page, "save-checkpoint")
    page.get_by_test_id("save-checkpoint-name").fill("here")
    page.get_by_test_id("save-checkpoint-confirm").click()
    saved = wait_until(lambda: outcomes(home, "save-checkpoint"), "the checkpoint is on disk")
    assert saved[0].result.id == f"baseline@{paused}-here"

    page.get_by_test_id("resume").click()
    wait_until(lambda: step(page) > paused + 30, "training goes on")
    menu(page, "checkpoints")
    here = page.locator(f'[data-testid="checkpoint"][data-checkpoint="baseline@{paused}-here"]')
    here.get_by_test_id("checkpoint-load").click()
    page.get_by_test_id("load-in-place").check()
    page.get_by_test_id("load-checkpoint-confirm").click()
    (back,) = wait_until(lambda: found(home, Rewound), "the way back")
    assert (back.step, back.exact) == (paused, True)
    assert back.left_step > paused + 30


def test_a_hyperparameter_is_changed_and_everyone_sees_it(page, paused, port, home):
    menu(page, "hyperparameters")
    row = page.locator('[data-testid="hyperparameter"][data-name="lr"]').first
    row.get_by_test_id("hyperparameter-input").fill("0.0005")
    page.get_by_test_id("hyperparameters-confirm").click()
    (outcome,) = wait_until(lambda: outcomes(home, "set-hyperparameters"), "the change")
    (change,) = outcome.result.changes
    assert (change.requested, change.applied) == (0.0005, 0.0005)
    code, status = ctl(port, "status")
    assert code == 0
    assert "0.0005" in json.dumps(status)


def test_a_test_and_a_proof_leave_the_run_where_it_is(page, paused, home):
    menu(page, "test")
    (tested,) = wait_until(lambda: outcomes(home, "test"), "the test")
    assert tested.result.values["test_loss"] > 0
    (limits, *_) = found(home, LimitsChanged)
    # A proof needs what is left of an epoch.
    held = paused + (1 if (paused + 1) % limits.steps_per_epoch else 2)
    page.get_by_test_id("run-for").click()
    page.get_by_test_id("run-for-amount").fill(str(held - paused))
    page.get_by_test_id("run-for-confirm").click()
    wait_until(lambda: state(page) == "paused" and step(page) == held, "the next pause")
    menu(page, "prove")
    page.get_by_test_id("prove-steps").fill("3")
    page.get_by_test_id("prove-confirm").click()
    (proved,) = wait_until(lambda: outcomes(home, "prove"), "the proof")
    assert proved.result.exact
    assert step(page) == held


def test_a_check_of_health_shows_what_it_found_and_leaves_the_run_where_it_is(page, paused, home):
    menu(page, "health")
    page.get_by_test_id("health-check").select_option("numerics")
    page.get_by_test_id("health-confirm").click()
    (checked,) = wait_until(lambda: outcomes(home, "health"), "the check")
    (report,) = checked.result.reports
    assert report.findings == []
    page.locator('[data-testid="health-report"][data-check="numerics"]').wait_for()
    page.get_by_role("button", name="Close").click()
    assert step(page) == paused


def test_a_note_is_pinned_and_a_reset_begins_a_new_run(page, paused, home):
    menu(page, "note")
    page.get_by_test_id("note-text").fill("Here it turned.")
    page.get_by_test_id("note-confirm").click()
    (note,) = wait_until(lambda: found(home, NoteAdded), "the note")
    assert (note.step, note.text, note.author) == (paused, "Here it turned.", "dashboard")
    menu(page, "reset")
    page.get_by_test_id("reset-confirm").click()
    wait_until(lambda: step(page) == 0, "the new run")
    with SessionReader(home.session_folder("latest")) as reader:
        first, second = session_summary(reader).runs
    assert (first.name, first.state.value) == ("baseline", "stopped")
    assert (second.name, second.parents) == ("baseline-2", ["baseline"])


def test_the_shell_steers_and_the_page_shows_it(page, paused, port, home):
    code, reply = ctl(port, "pause")
    assert (code, reply["outcome"]["kind"]) == (1, "refused")
    assert "already paused" in reply["outcome"]["reason"]
    code, reply = ctl(port, "resume")
    assert (code, reply["outcome"]["kind"]) == (0, "applied")
    wait_until(lambda: state(page) == "running", "the page shows it")
    code, reply = ctl(port, "stop")
    assert code == 0
    saved = reply["outcome"]["result"]
    assert saved["kind"] == "checkpoint-written"
    wait_until(lambda: state(page) == "stopped", "the page shows the end")
    finals = [event for event in found(home, CheckpointSaved) if event.label == "final"]
    assert [event.sha256 for event in finals] == [saved["sha256"]]
