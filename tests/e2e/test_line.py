"""From a training script to a page and back: watch it, pause it, lose the server, stop it."""

from __future__ import annotations

import signal
import time

import pytest
from otf_session.events import CommandChanged, Metrics
from otf_session.queries import events_after, session_summary
from otf_session.store import SessionReader

from .conftest import wait_until

pytestmark = pytest.mark.browser


def state(page):
    return page.get_by_test_id("state-pill").get_attribute("data-state")


def step(page):
    return int(page.get_by_test_id("step").get_attribute("data-step") or 0)


def chart(page, metric):
    """What a chart says of itself: its newest step, and how many points it was given."""
    found = page.locator(f'[data-testid="chart"][data-metric="{metric}"]')
    return {
        "last_step": int(found.get_attribute("data-last-step") or 0),
        "seen": int(found.get_attribute("data-steps-seen") or 0),
    }


def recorded(home):
    """The steps of the training loss in the store, and the session at a glance."""
    with SessionReader(home.session_folder("latest")) as reader:
        events = events_after(reader.database, 0, 10_000_000)
        summary = session_summary(reader)
    steps = [
        number
        for event in events
        if isinstance(event, Metrics) and "loss" in event.values
        for number in event.steps
    ]
    return steps, summary, events


def test_watch_pause_resume_and_stop(page, processes, port, link, home):
    demo = processes.demo(port)
    wait_until(lambda: home.token_file.exists() and home.session_folders(), "a session")
    page.goto(link())
    wait_until(lambda: state(page) == "running", "the page shows that the run is running")

    first = wait_until(lambda: chart(page, "loss")["last_step"], "a curve")
    wait_until(lambda: chart(page, "loss")["last_step"] > first + 20, "the curve grows")

    page.get_by_test_id("pause").click()
    wait_until(lambda: state(page) == "paused", "the page shows the pause")
    held = step(page)
    time.sleep(1.5)
    assert step(page) == held
    steps, summary, _ = recorded(home)
    assert steps[-1] == summary.runs[-1].step == held

    page.get_by_test_id("resume").click()
    wait_until(lambda: state(page) == "running" and step(page) > held, "training goes on")

    page.get_by_test_id("stop").click()
    page.get_by_test_id("stop-confirm").click()
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, out
    assert "run 'baseline' stopped" in out
    steps, summary, events = recorded(home)
    assert steps == list(range(1, len(steps) + 1))
    assert summary.state.value == "stopped"
    commands = [
        (event.command.__struct_config__.tag, event.status.value, event.author)
        for event in events
        if isinstance(event, CommandChanged)
    ]
    assert commands == [
        (name, status, "dashboard")
        for name in ("pause", "resume", "stop")
        for status in ("received", "applied")
    ]


def survive_without_a_server(page, processes, port, home):
    """The page says what is wrong, training goes on, and a new server makes up for the gap."""
    before = chart(page, "loss")["last_step"]
    connection = page.get_by_test_id("connection")
    wait_until(lambda: connection.get_attribute("data-state") != "open", "the loss is shown")
    wait_until(lambda: recorded(home)[0][-1] > before + 30, "training goes on without a server")
    server = processes.serve(port)
    wait_until(lambda: connection.get_attribute("data-state") == "open", "it is connected again")
    wait_until(lambda: chart(page, "loss")["last_step"] > before + 60, "the page catches up")
    return server


def test_a_killed_server_costs_no_point(page, processes, port, link, home):
    server = processes.serve(port)
    demo = processes.demo(port)
    wait_until(home.session_folders, "a session")
    page.goto(link())
    wait_until(lambda: state(page) == "running", "the page shows that the run is running")
    wait_until(lambda: chart(page, "loss")["last_step"] > 20, "a curve")

    for _ in range(2):
        server.kill()
        server.wait()
        server = survive_without_a_server(page, processes, port, home)

    page.get_by_test_id("pause").click()
    wait_until(lambda: state(page) == "paused", "a command passes after the restarts")
    steps, summary, _ = recorded(home)
    assert steps == list(range(1, summary.runs[-1].step + 1))
    wait_until(lambda: chart(page, "loss")["last_step"] == steps[-1], "the page has the last point")
    assert chart(page, "loss")["seen"] == len(steps)

    # What a new page is told is what the old one has gathered.
    page.reload()
    wait_until(lambda: chart(page, "loss")["seen"] == len(steps), "a fresh page has all points")
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert recorded(home)[1].state.value == "stopped"


def test_a_finished_run_lingers_for_the_dashboard_and_is_resumed(page, processes, port, link, home):
    processes.serve(port)
    page.goto(link())
    demo = processes.demo(port, "--epochs", "1")
    wait_until(lambda: home.session_folders() and state(page) == "paused", "the script lingers")
    assert demo.poll() is None
    held = step(page)
    assert page.locator('[data-testid="evaluation"][data-split="test"]').count() == 1
    page.get_by_test_id("resume").click()
    wait_until(lambda: step(page) == 2 * held and state(page) == "paused", "as much again")
    page.close()
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, out
    assert "nobody is watching" in out
    assert recorded(home)[1].state.value == "finished"


def test_ctrl_c_ends_a_lingering_script_as_if_it_had_just_ended(page, processes, port, link, home):
    processes.serve(port)
    page.goto(link())
    demo = processes.demo(port, "--epochs", "1")
    wait_until(lambda: home.session_folders() and state(page) == "paused", "the script lingers")
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, out
    assert "press Ctrl-C to end it" in out
    assert "run 'baseline' finished" in out
    wait_until(lambda: state(page) == "finished", "the page shows the end")
    assert recorded(home)[1].state.value == "finished"


def test_the_headless_demo_ends_by_itself_with_a_summary(processes, port, home):
    demo = processes.demo(port, "--headless", "--epochs", "2")
    out, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, out
    assert "run 'baseline' finished" in out
    assert "test_accuracy" in out
    steps, summary, _ = recorded(home)
    assert steps == list(range(1, summary.runs[-1].step + 1))
