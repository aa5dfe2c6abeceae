"""Commands over HTTP: asked for, waited for, and looked at again."""

import time
from typing import List

import pytest
from otf_session.commands import Applied, CommandRequest, Pause, Refused, Stop
from otf_session.events import CommandChanged, CommandStatus, RunState
from otf_session.frames import CommandDelivery, CommandProgress, CommandQueued, CommandReply
from otf_session.liveness import AliveLock

from ..helpers.sessions import started, state
from ..helpers.vocabulary import EVENTS
from ..helpers.waiting import wait_for
from .peers import InThread, changed, decode, joined, refused, viewer_of

PAUSE = {"kind": "pause"}


def path_of(store, command_id=""):
    return f"/api/sessions/{store.id}/commands" + (f"/{command_id}" if command_id else "")


def ask(api, store, body=PAUSE, **options):
    """Ask and do not wait: the trainer has the command when this returns."""
    response = api.post(path_of(store) + "?wait=0", json=body, **options)
    assert response.status_code == 202
    return response.json()["id"]


def look(api, store, command_id, wait=0):
    return api.get(path_of(store, command_id) + f"?wait={wait}")


# Asking


@pytest.mark.parametrize(
    "body",
    [b"", b"pause", b"{}", b'{"kind": "explode"}', b"[]", b'"pause"', b"\xff", b'{"kind": "pause"'],
)
def test_a_body_that_is_no_command_is_refused(api, make, body):
    store = make(started())
    message = refused(api.post(path_of(store), content=body), 400)
    assert message.startswith("The body is no command: ")


def test_a_body_larger_than_any_command_is_refused(api, make):
    store = make(started())
    body = b'{"kind": "note", "text": "' + b"x" * 100_000 + b'"}'
    assert "65536 bytes" in refused(api.post(path_of(store), content=body), 413)


def test_a_command_for_nobody_is_not_found(api):
    refused(api.post("/api/sessions/nothing/commands", json=PAUSE), 404)


@pytest.mark.parametrize("command", [Pause(), Stop()])
def test_a_command_is_answered_by_the_trainer(api, make, command):
    store = make(started())
    kind = command.__struct_config__.tag
    with joined(api, store) as trainer:
        asked = InThread(api.post, path_of(store), json={"kind": kind})
        delivery = trainer.answer(Applied(step=7, message="Done."))
        response = asked.result()
    assert (delivery.request.author, delivery.request.command) == ("http", command)
    assert response.status_code == 200
    assert response.json() == {
        "frame": "command-reply",
        "id": delivery.request.id,
        "session": store.id,
        "outcome": {"kind": "applied", "step": 7, "message": "Done.", "result": None},
    }


def test_a_refusal_is_an_answer_too(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        asked = InThread(api.post, path_of(store), json=PAUSE)
        trainer.answer(Refused(reason="No."))
        response = asked.result()
    assert response.status_code == 200
    assert decode(response.content, CommandReply).outcome == Refused(reason="No.")


def test_commands_under_way_at_once_get_their_own_answers(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        asked = [
            InThread(api.post, path_of(store), json={"kind": kind}) for kind in ("pause", "resume")
        ]
        answered = {}
        for step in (1, 2):
            delivery = trainer.answer(Applied(step=step))
            answered[delivery.request.id] = step
        found = {each.result().json()["id"]: each.result().json()["outcome"] for each in asked}
    assert {key: outcome["step"] for key, outcome in found.items()} == answered
    assert len(answered) == 2


@pytest.mark.parametrize(
    ("query", "headers", "author"),
    [
        ("", {}, "http"),
        ("?author=Ada", {}, "Ada"),
        ("", {"otf-author": "a script"}, "a script"),
        ("?author=Ada", {"otf-author": "a script"}, "Ada"),
        ("?author=", {"otf-author": ""}, "http"),
        ("?author=%E6%97%A5%E6%9C%AC", {}, "日本"),
        ("?author=" + "x" * 100, {}, "x" * 100),
    ],
)
def test_the_author_is_who_asks(api, make, query, headers, author):
    store = make(started())
    with joined(api, store) as trainer:
        asked = InThread(api.post, path_of(store) + query, json=PAUSE, headers=headers)
        assert trainer.answer(Applied(step=1)).request.author == author
        asked.result()


@pytest.mark.parametrize("author", ["x" * 101, "two%0Alines", "%00"])
def test_an_author_that_is_no_short_line_is_refused(api, make, author):
    store = make(started())
    with joined(api, store):
        message = refused(api.post(path_of(store) + f"?author={author}", json=PAUSE), 400)
    assert message == "author is no line of at most 100 printable characters."


# Sessions by other names


def test_a_session_may_be_named_by_a_part_of_its_id_or_as_the_latest(api, make, monkeypatch):
    ids = iter(["20260101-100000-aaaa", "20260102-100000-bbbb"])
    monkeypatch.setattr("otf_session.home.new_id", lambda others: next(ids))
    older, newer = make(started()), make(started())
    with joined(api, older) as one, joined(api, newer) as two:
        for name, store, trainer in (
            ("latest", newer, two),
            ("aaaa", older, one),
            ("aa", older, one),
            ("20260101", older, one),
            (newer.id, newer, two),
        ):
            path = f"/api/sessions/{name}/commands"
            asked = InThread(api.post, path, json=PAUSE)
            request = trainer.answer(Applied(step=1)).request
            assert asked.result().json()["session"] == store.id
            assert api.get(f"{path}/{request.id}").json() == asked.result().json()
            assert api.get(path).json() == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_several_sessions_answer_to_is_refused(api, make, method):
    make(started())
    make(started())
    response = api.request(method, "/api/sessions/20/commands", json=PAUSE)
    assert "Type more of the id" in refused(response, 409)


@pytest.mark.parametrize("name", ["nothing", "%2e%2e", "..%5c..", "a%00b", "x" * 300])
@pytest.mark.parametrize("route", ["commands", "commands/c0ffee"])
def test_a_session_that_does_not_exist_is_not_found(api, make, name, route):
    make(started())
    assert "There is no session" in refused(api.get(f"/api/sessions/{name}/{route}"), 404)


# Waiting


@pytest.mark.parametrize("wait", ["soon", "nan", "", "1s"])
def test_a_time_to_wait_that_is_none_is_refused(api, make, wait):
    store = make(started())
    message = refused(api.post(path_of(store) + f"?wait={wait}", json=PAUSE), 400)
    assert message == f"wait is {wait!r}; it is a number of seconds."


def test_a_command_without_an_outcome_yet_is_answered_by_how_far_it_is(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        began = time.monotonic()
        response = api.post(path_of(store) + "?wait=0.2", json=PAUSE)
        assert 0.2 <= time.monotonic() - began < 5
        assert response.status_code == 202
        command_id = trainer.receive().id
        queued = {"id": command_id, "session": store.id, "status": "queued", "progress": None}
        assert response.json() == queued
        assert look(api, store, command_id).json() == queued


def test_a_command_is_seen_to_be_queued_received_going_on_and_done(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        command_id = ask(api, store, {"kind": "test"})
        request = trainer.receive()
        assert request.id == command_id
        assert look(api, store, command_id).json()["status"] == "queued"
        trainer.record(request)
        wait_for(lambda: look(api, store, command_id).json()["status"] == "received", "the receipt")
        sent = trainer.progress(command_id, 12)
        found = wait_for(lambda: look(api, store, command_id).json()["progress"], "the progress")
        assert found == {
            "frame": "command-progress",
            "session": store.id,
            "id": command_id,
            "done": 12,
            "total": 40,
            "unit": "batches",
        }
        assert sent.done == 12
        assert look(api, store, command_id).status_code == 202
        waiting = InThread(look, api, store, command_id, 10)
        trainer.reply(command_id, Applied(step=3))
        response = waiting.result()
        assert response.status_code == 200
        assert decode(response.content, CommandReply).outcome == Applied(step=3)
        # And it stays so.
        assert look(api, store, command_id).json() == response.json()


def test_an_outcome_that_comes_while_it_is_waited_for_is_the_answer_at_once(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        command_id = ask(api, store)
        waiting = [InThread(look, api, store, command_id, 60) for _ in range(3)]
        time.sleep(0.1)
        began = time.monotonic()
        trainer.reply(command_id, Applied(step=1))
        assert {each.result().status_code for each in waiting} == {200}
        assert time.monotonic() - began < 5


def test_a_trainer_that_never_gets_there_disturbs_nobody(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        late = ask(api, store)
        asked = InThread(api.post, path_of(store), json={"kind": "stop"})
        assert trainer.receive().id == late
        assert trainer.answer(Applied(step=10)).request.command == Stop()
        assert asked.result().json()["outcome"]["step"] == 10
        assert look(api, store, late).status_code == 202
        trainer.reply(late, Applied(step=11))
        assert look(api, store, late, 5).json()["outcome"]["step"] == 11


def test_a_reply_that_got_lost_is_found_in_the_record(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        asked = InThread(api.post, path_of(store), json=PAUSE)
        trainer.record(trainer.receive(), Applied(step=4))
        assert asked.result().json()["outcome"]["step"] == 4


# Looking again


def request_of(command_id="c0ffee"):
    return CommandRequest(id=command_id, author="dashboard", command=Pause())


def test_commands_are_listed_from_the_record(api, make):
    store = make(*EVENTS)
    recorded = [event for event in EVENTS if isinstance(event, CommandChanged)]
    assert [event.id for event in recorded] == ["c0ffee", "facade"]
    assert decode(api.get(path_of(store)).content, List[CommandChanged]) == recorded


def test_a_command_that_nobody_asked_for_is_not_found(api, make):
    store = make(*EVENTS)
    message = refused(look(api, store, "unknown"), 404)
    assert store.id in message
    assert "otf ctl list" in message


def test_a_command_from_before_the_server_s_start_is_found_in_the_record(api, make):
    applied = Applied(step=5, message="Paused.")
    store = make(
        started(),
        changed(request_of(), CommandStatus.RECEIVED),
        changed(request_of("other"), CommandStatus.APPLIED, Applied(step=1)),
        changed(request_of(), CommandStatus.APPLIED, applied),
    )
    response = look(api, store, "c0ffee")
    assert response.status_code == 200
    assert decode(response.content, CommandReply) == CommandReply(
        id="c0ffee", session=store.id, outcome=applied
    )


def test_a_command_from_before_the_server_s_start_is_waited_for(api, make):
    store = make(started(), changed(request_of(), CommandStatus.RECEIVED))
    with joined(api, store) as trainer:
        assert look(api, store, "c0ffee").json()["status"] == "received"
        waiting = InThread(look, api, store, "c0ffee", 10)
        trainer.reply("c0ffee", Applied(step=2))
        assert waiting.result().json()["outcome"]["step"] == 2


def test_a_command_whose_trainer_died_is_refused_in_the_end(api, make):
    store = make(started(), changed(request_of(), CommandStatus.RECEIVED))
    reason = look(api, store, "c0ffee").json()["outcome"]["reason"]
    assert reason.startswith("The trainer received the command at step 1, and did not come to")
    assert "otf resume" in reason


def test_a_trainer_whose_connection_ends_may_still_have_the_last_word(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        asked = InThread(api.post, path_of(store), json=PAUSE)
        request = trainer.receive()
    first = asked.result().json()["outcome"]
    assert first["kind"] == "refused"
    assert "connection ended" in first["reason"]
    assert look(api, store, request.id).json()["outcome"] == first
    # It comes back, with the command received and then applied.
    with joined(api, store) as trainer:
        trainer.record(request)
        wait_for(
            lambda: look(api, store, request.id).json().get("status") == "received", "the receipt"
        )
        trainer.reply(request.id, Applied(step=8))
        assert look(api, store, request.id, 5).json()["outcome"]["step"] == 8
    assert look(api, store, request.id).json()["outcome"]["step"] == 8


# Sessions that cannot be steered


def refusal(api, store):
    response = api.post(path_of(store), json=PAUSE)
    assert response.status_code == 200
    outcome = response.json()["outcome"]
    assert outcome["kind"] == "refused"
    assert "not connected" in outcome["reason"]
    # The refusal can be looked up like any other answer.
    assert look(api, store, response.json()["id"]).json() == response.json()
    return outcome["reason"]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (None, ["its process is gone", "cut off at step 0", "otf resume"]),
        (RunState.RUNNING, ["its process is gone", "cut off at step 9", "otf resume"]),
        (RunState.PAUSED, ["its process is gone", "otf resume"]),
        (RunState.STOPPED, ["was stopped at step 9", "otf resume"]),
        (RunState.FAILED, ["failed at step 9 (ValueError: no)", "otf resume"]),
        (RunState.FINISHED, ["finished at step 9", "a new session"]),
    ],
)
def test_a_session_without_a_trainer_says_why_and_what_would_work(api, make, last, words):
    reason_of = {RunState.FAILED: "ValueError: no"}
    events = [state(last, step=9, reason=reason_of.get(last, ""))] if last else []
    store = make(started(), *events)
    reason = refusal(api, store)
    assert [word for word in words if word not in reason] == []
    if "otf resume" in words:
        assert f"`otf resume {store.id} -- python train.py`" in reason


def test_a_session_without_runs_says_why_too(api, make):
    assert "its process is gone, and training was cut off." in refusal(api, make())


def test_a_trainer_that_is_linked_elsewhere_is_told_from_a_dead_one(api, make):
    store = make(started(), state(RunState.PAUSED, step=9))
    lock = AliveLock(store.folder)
    assert lock.acquire()
    try:
        reason = refusal(api, store)
    finally:
        lock.release()
    assert "its process is there, and training is paused at step 9" in reason
    assert "ONTHEFLY_HOME" in reason
    assert "otf serve" in reason
    assert "otf resume" not in reason


# What dashboards see of it


def test_dashboards_see_what_is_asked_elsewhere(api, make):
    store = make(started())
    with joined(api, store) as trainer, viewer_of(api) as one, viewer_of(api) as two:
        command_id = ask(api, store, headers={"otf-author": "otf ctl"})
        delivery = trainer.get(CommandDelivery)
        queued = CommandQueued(session=store.id, request=delivery.request)
        assert queued.request == CommandRequest(id=command_id, author="otf ctl", command=Pause())
        progress = trainer.progress(command_id, 3)
        for viewer in (one, two):
            assert viewer.get(CommandQueued) == queued
            assert viewer.get(CommandProgress) == progress


def test_a_command_that_is_not_passed_on_is_not_queued(api, make):
    store, other = make(started()), make(started())
    with joined(api, other) as trainer, viewer_of(api) as viewer:
        refusal(api, store)
        ask(api, other)
        trainer.receive()
        assert viewer.get(CommandQueued).session == other.id
