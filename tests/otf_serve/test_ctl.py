"""`otf ctl` from a shell: against a real server, and a trainer on a real socket."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from otf_serve import ctl as client_module
from otf_serve.ctl_cli import app
from otf_serve.errors import NotReachable
from otf_session.address import ensure_token, serving_lock
from otf_session.commands import (
    Applied,
    Cancel,
    CheckHealth,
    Extend,
    LoadCheckpoint,
    Note,
    Pause,
    Prove,
    Refused,
    Reset,
    Resume,
    RunFor,
    SaveCheckpoint,
    SetHyperparameters,
    Stop,
    Test,
    Validate,
)
from otf_session.frames import CommandReply
from otf_session.home import Home
from otf_session.liveness import AliveLock

from ..helpers.sessions import make_session, started
from ..helpers.shell import invoke, modules_after, undocumented
from ..helpers.waiting import wait_for
from .processes import SECONDS, LiveTrainer, Server, free_port, until_asked

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


class Place:
    """A home that is served, and what is typed there."""

    def __init__(self, home, port):
        self.home = home
        self.port = port

    def ctl(self, *words):
        return invoke(app, *words, "--home", self.home.path, "--port", self.port)

    def start(self, *words, **options):
        """The same in a process."""
        where = ["--home", str(self.home.path), "--port", str(self.port)]
        return subprocess.Popen(
            [sys.executable, "-m", "otf_serve.ctl_cli", *words, *where],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    home, port = Home(tmp_path_factory.mktemp("served")), free_port()
    server = Server("--json", "--home", home.path, "--port", port)
    server.ready()
    yield Place(home, port)
    server.kill()


@pytest.fixture(scope="module")
def store(place):
    store = make_session(place.home, started())
    yield store
    store.close()


@pytest.fixture
def trainer(place, store):
    with LiveTrainer(place.home, place.port, store) as trainer:
        yield trainer


def said(result, code):
    """What was said, on the stream that belongs to the exit code."""
    assert result.exit_code == code, result.stdout + result.stderr
    empty, full = (result.stderr, result.stdout) if code == 0 else (result.stdout, result.stderr)
    assert empty == ""
    return full


# Every command


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("pause", Pause()),
        ("pause --release", Pause(release=True)),
        ("resume", Resume()),
        ("run-for --steps 5", RunFor(steps=5)),
        ("run-for --epochs 2", RunFor(epochs=2)),
        ("stop", Stop()),
        ("cancel", Cancel()),
        ("cancel c0ffee", Cancel(command="c0ffee")),
        ("save", SaveCheckpoint()),
        ("save before-decay --pin", SaveCheckpoint(name="before-decay", pin=True)),
        ("load baseline@100", LoadCheckpoint(checkpoint="baseline@100")),
        ("load best --as-new-run", LoadCheckpoint(checkpoint="best", as_new_run=True)),
        (
            "load best --as-new-run --name again",
            LoadCheckpoint(checkpoint="best", as_new_run=True, run="again"),
        ),
        ("reset", Reset()),
        ("reset --name again", Reset(run="again")),
        ("test", Test()),
        ("validate", Validate()),
        ("set lr=0.01", SetHyperparameters(values={"lr": 0.01})),
        ("set lr=1e-3 --group 1", SetHyperparameters(values={"lr": 0.001}, group=1)),
        ("set lr=1 --hold-lr", SetHyperparameters(values={"lr": 1}, hold=True)),
        ("set --release-lr", SetHyperparameters(hold=False)),
        ("extend --epochs 3", Extend(epochs=3)),
        ("extend --steps 300", Extend(steps=300)),
        ("note turned", Note(text="turned")),
        ("note turned --step 110", Note(text="turned", step=110)),
        ("prove", Prove()),
        ("prove --steps 3", Prove(steps=3)),
        ("health", CheckHealth()),
        ("health numerics", CheckHealth(check="numerics")),
        ("health numerics --every 1000", CheckHealth(check="numerics", every=1000)),
        ("health all --every 0", CheckHealth(every=0)),
        ("health determinism --proof 5", CheckHealth(check="determinism", proof=5)),
    ],
)
def test_a_command_arrives_as_it_was_typed(place, trainer, words, command):
    result = place.ctl(*words.split())
    assert said(result, 0) == "Paused at step 120.\n"
    (request,) = trainer.asked
    assert (request.command, request.author) == (command, "otf ctl")
    assert type(request.command) is type(command)


def test_every_command_of_the_vocabulary_can_be_typed():
    from otf_session.commands import Command

    tags = {kind.__struct_config__.tag for kind in Command.__args__}
    typed = {"save-checkpoint": "save", "load-checkpoint": "load", "set-hyperparameters": "set"}
    offered = {command.name for command in app.registered_commands}
    assert {typed.get(tag, tag) for tag in tags} | {"status", "list", "checkpoints"} == offered


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0.5", 0.5), ("1e-4", 1e-4), ("3", 3), ("-2", -2), ("+7", 7), ("1.0", 1.0)),
        *(("true", True), ("False", False), ("abc", "abc"), ("", ""), ("a=b", "a=b")),
        *((str(2**62), 2**62), (str(2**63), float(2**63)), ("0x10", "0x10")),
    ],
)
def test_values_are_numbers_bools_or_texts(place, trainer, text, value):
    said(place.ctl("set", f"x={text}"), 0)
    (found,) = trainer.asked[0].command.values.values()
    assert (found, type(found)) == (value, type(value))


def test_several_values_are_one_command(place, trainer):
    said(place.ctl("set", "lr=0.1", "mixup=true", "name=cosine"), 0)
    values = {"lr": 0.1, "mixup": True, "name": "cosine"}
    assert trainer.asked[0].command == SetHyperparameters(values=values)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run-for", "either --steps or --epochs"),
        ("run-for --steps 1 --epochs 1", "either --steps or --epochs"),
        ("run-for --steps 0", "--steps"),
        ("extend", "either --steps or --epochs"),
        ("extend --epochs 1 --steps 1", "either --steps or --epochs"),
        ("set", "otf ctl set lr=0.01"),
        ("set lr", "'lr' is no NAME=VALUE"),
        ("set =1", "'=1' is no NAME=VALUE"),
        ("set lr=1 lr=2", "lr is there twice"),
        ("set lr=nan", "no finite number"),
        ("set lr=inf", "no finite number"),
        ("load", "checkpoint"),
        ("load best --name again", "--as-new-run"),
        ("note", "text"),
        ("note x --step -1", "--step"),
        ("prove --steps 0", "--steps"),
        ("prove --steps many", "--steps"),
        ("health heart", "'heart' is no check"),
        ("health --every -1", "--every"),
        ("health numerics --proof 3", "part of the check of determinism"),
        ("pause now", "now"),
        ("pause --timeout soon", "--timeout"),
        ("explode", "explode"),
    ],
)
def test_what_is_typed_wrongly_is_said_before_anything_is_asked(words, hint):
    # There is no server here: none is looked for.
    result = invoke(app, *words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    # Typer has changed how it writes an argument's name.
    assert hint.lower() in " ".join(result.stderr.replace("│", " ").lower().split())


# Answers


def test_a_refusal_is_said_with_its_reason(place, trainer):
    trainer.react = lambda request: Refused(reason="The run is already paused, at step 7.")
    assert said(place.ctl("pause"), 1) == "refused: The run is already paused, at step 7.\n"


def test_an_outcome_without_words_says_the_step(place, trainer):
    trainer.react = lambda request: Applied(step=7)
    assert said(place.ctl("resume"), 0) == "Done at step 7.\n"


@pytest.mark.parametrize("outcome", [Applied(step=7, message="Done."), Refused(reason="No.")])
def test_as_json_it_is_the_reply(place, trainer, outcome):
    trainer.react = lambda request: outcome
    result = place.ctl("pause", "--json")
    assert result.exit_code == (0 if isinstance(outcome, Applied) else 1)
    assert (result.stdout.count("\n"), result.stderr) == (1, "")
    reply = CommandReply(id=trainer.asked[0].id, session=trainer.store.id, outcome=outcome)
    assert msgspec.json.decode(result.stdout, type=CommandReply) == reply


def test_other_people_s_words_do_nothing_to_the_terminal(place, trainer):
    trainer.react = lambda request: Refused(reason="No.\x1b[2J\r\nAnd \x07no.")
    assert said(place.ctl("pause"), 1) == "refused: No.?[2J\nAnd ?no.\n"


def test_a_session_without_a_trainer_says_why(place, store):
    message = said(place.ctl("pause", "--session", store.id), 1)
    assert message.startswith("refused: The session's trainer is not connected to this server")
    assert f"otf resume {store.id}" in message


# Waiting


def never(request):
    """A trainer that is busy."""


def test_a_command_need_not_be_waited_for(place, trainer):
    trainer.react = never
    assert "No outcome yet: the command waits" in said(place.ctl("pause", "--no-wait"), 0)
    found = json.loads(place.ctl("pause", "--no-wait", "--json").stdout)
    request = until_asked(trainer, 2)
    assert found == {
        "id": request.id,
        "session": trainer.store.id,
        "status": "queued",
        "progress": None,
    }


def test_a_command_without_an_outcome_in_time_has_a_code_of_its_own(place, trainer):
    trainer.react = never
    began = time.monotonic()
    message = said(place.ctl("pause", "--timeout", "0.3"), 4)
    assert 0.3 <= time.monotonic() - began < 5
    assert f"otf ctl cancel {trainer.asked[0].id}" in message
    result = place.ctl("pause", "--timeout", "0.3", "--json")
    assert (result.exit_code, result.stderr) == (4, "")
    assert json.loads(result.stdout)["status"] == "queued"


def test_by_itself_it_waits_for_as_long_as_there_is_progress(place, trainer, monkeypatch):
    monkeypatch.setattr(client_module, "_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(client_module, "_LOOK_SECONDS", {True: 0.05, False: 0.05})

    def react(request):
        for done in range(1, 11):
            trainer.progress(request.id, done)
            time.sleep(0.15)
        return Applied(step=1, message="Tested.")

    trainer.react = react
    assert said(place.ctl("test"), 0) == "Tested.\n"
    # As long as was said, whatever goes on.
    message = said(place.ctl("test", "--timeout", "0.5"), 4)
    assert " of 40 batches)" in message


def test_a_command_on_which_nothing_is_heard_is_not_waited_for(place, trainer, monkeypatch):
    monkeypatch.setattr(client_module, "_SILENT_SECONDS", 0.3)
    trainer.react = never
    assert "No outcome yet" in said(place.ctl("test"), 4)


def test_a_terminal_shows_the_progress_and_clears_it(place, trainer):
    shown, go_on = threading.Event(), threading.Event()

    def react(request):
        trainer.progress(request.id, 12)
        shown.set()
        assert go_on.wait(SECONDS)
        return Applied(step=3, message="Tested.")

    trainer.react = react
    terminal, slave = os.openpty()
    process = place.start("test", stderr=slave)
    os.close(slave)
    seen = b""
    try:
        assert shown.wait(SECONDS)
        while b"12 of 40 batches" not in seen:
            seen += os.read(terminal, 1000)
        go_on.set()
        out, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 1000):
                seen += part
        os.close(terminal)
    assert (process.returncode, out) == (0, "Tested.\n")
    # Written over, and the cursor is where it was.
    assert seen.endswith(b"\r" + b" " * len("12 of 40 batches") + b"\r")


def test_a_program_gets_no_progress(place, trainer):
    def react(request):
        trainer.progress(request.id, 12)
        return Applied(step=3, message="Tested.")

    trainer.react = react
    assert said(place.ctl("test"), 0) == "Tested.\n"


def test_ctrl_c_leaves_the_command_to_the_trainer(place, trainer):
    trainer.react = never
    process = place.start("test")
    until_asked(trainer)
    # A moment, so that it has gone on from asking to waiting.
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (130, "")
    assert "stays with the trainer" in errors
    assert "otf ctl cancel" in errors
    assert "Traceback" not in errors


# Which session


@pytest.fixture
def two(place, monkeypatch):
    """Two sessions, of which the older one has a trainer."""
    ids = iter(["20250102-100000-pppp", "20250101-100000-qqqq"])
    monkeypatch.setattr("otf_session.home.new_id", lambda others: next(ids))
    newer, older = make_session(place.home, started()), make_session(place.home, started())
    with LiveTrainer(place.home, place.port, older) as trainer:
        yield newer, older, trainer
    for store in (newer, older):
        store.close()
        for path in sorted(store.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        store.folder.rmdir()


def test_the_one_that_is_connected_is_meant(place, store, two):
    _, older, trainer = two
    # `store` is newer than both, and its trainer is gone.
    assert place.home.session_folder("latest").name == store.id
    reply = json.loads(place.ctl("pause", "--json").stdout)
    assert reply["session"] == older.id
    assert len(trainer.asked) == 1


@pytest.mark.parametrize("name", ["qqqq", "qq", "20250101", "20250101-100000-qqqq"])
def test_a_session_is_named_by_a_part_of_its_id(place, two, name):
    reply = json.loads(place.ctl("pause", "--session", name, "--json").stdout)
    assert (reply["session"], reply["outcome"]["kind"]) == (two[1].id, "applied")


def test_the_latest_is_the_newest_connected_or_not(place, store, two):
    reply = json.loads(place.ctl("pause", "--session", "latest", "--json").stdout)
    assert (reply["session"], reply["outcome"]["kind"]) == (store.id, "refused")


def test_without_any_trainer_the_newest_is_meant(place, store):
    assert store.id in said(place.ctl("pause"), 1)


def test_of_several_connected_ones_the_newest_is_meant_and_named(place, two):
    newer, older, trainer = two
    with LiveTrainer(place.home, place.port, newer) as other:
        result = place.ctl("pause")
        assert (result.exit_code, result.stdout) == (0, "Paused at step 120.\n")
        assert result.stderr == (
            f"2 trainings are connected; this is the newest, {newer.id} (another: --session).\n"
        )
        assert (len(other.asked), len(trainer.asked)) == (1, 0)
        assert said(place.ctl("pause", "--session", older.id), 0) == "Paused at step 120.\n"


def test_a_session_that_does_not_exist_is_a_misuse(place):
    message = said(place.ctl("pause", "--session", "zzzz"), 2)
    assert message.startswith("error: There is no session 'zzzz'")
    assert "otf session list" in message


def test_a_name_of_several_sessions_is_a_misuse(place, two):
    message = said(place.ctl("pause", "--session", "2025"), 2)
    assert "2 sessions begin with '2025'" in message
    assert "Type more of the id" in message


def test_a_home_without_sessions_says_what_makes_one(start, port, home):
    start("--json", "--port", port).ready()
    for words in (["pause"], ["status"], ["list"]):
        message = said(invoke(app, *words, "--port", port), 2)
        assert message.startswith("error: There is no session in")
        assert "otf demo" in message


# No server


def test_a_home_that_was_never_served_says_how_to_serve_it(home):
    message = said(invoke(app, "pause"), 3)
    assert message.startswith(f"error: No otf serve of the home {home.path} is running")
    assert message.endswith(": otf serve\n")


def test_a_server_that_is_not_running_is_said(start, port, home):
    server = start("--json", "--port", port)
    server.ready()
    server.end(signal.SIGTERM)
    message = said(invoke(app, "pause", "--port", port), 3)
    assert f"is running on port {port}" in message
    assert message.endswith(f": otf serve --port {port}\n")


def test_the_port_and_the_home_may_come_from_the_environment(place, trainer, monkeypatch):
    monkeypatch.setenv("ONTHEFLY_HOME", str(place.home.path))
    monkeypatch.setenv("ONTHEFLY_DASHBOARD_PORT", str(place.port))
    assert said(invoke(app, "pause"), 0) == "Paused at step 120.\n"


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_number_that_is_no_port_is_a_misuse(port):
    assert "which is no port" in said(invoke(app, "pause", "--port", port), 2)


class Stranger:
    """Something that is not our server; it answers every connection with these bytes."""

    def __init__(self, answer=b""):
        self.heard = []
        self._answer = answer
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(1.0)
                with connection, contextlib.suppress(OSError):
                    self.heard.append(connection.recv(65536))
                    connection.sendall(self._answer)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SECONDS)


def test_a_stranger_on_the_port_is_not_shown_the_token(home):
    ensure_token(home)
    with Stranger() as stranger:
        message = said(invoke(app, "pause", "--port", stranger.port), 3)
        wait_for(lambda: stranger.heard, "the look at the port", SECONDS)
    assert f"Port {stranger.port} of 127.0.0.1 is held by something else" in message
    assert stranger.heard == [b""]


def test_a_server_of_another_home_is_not_shown_the_token(place, home):
    ensure_token(home)
    message = said(invoke(app, "pause", "--port", place.port), 3)
    assert "held by something else than the otf serve of the home" in message


def test_a_stranger_on_another_address_than_ours_is_not_shown_the_token(home):
    # Our server is on ::1, and somebody else on the same port of 127.0.0.1.
    ensure_token(home)
    with Stranger() as stranger:
        ours = AliveLock(home.path, serving_lock("::1", stranger.port))
        assert ours.acquire()
        message = said(invoke(app, "pause", "--port", stranger.port), 3)
        ours.release()
    assert f"Port {stranger.port} of 127.0.0.1 is held by something else" in message
    assert set(stranger.heard) <= {b""}


def test_a_server_is_found_by_a_name_of_this_machine(place, trainer):
    assert said(place.ctl("pause", "--host", "localhost"), 0) == "Paused at step 120.\n"


def test_a_host_without_an_address_is_said(home):
    ensure_token(home)
    assert "The host 'a..b' has no address" in said(invoke(app, "pause", "--host", "a..b"), 3)


@contextlib.contextmanager
def posing(home, answer):
    """Something that answers where our server is known to listen."""
    ensure_token(home)
    with Stranger(answer) as stranger:
        lock = AliveLock(home.path, serving_lock("127.0.0.1", stranger.port))
        assert lock.acquire()
        try:
            yield stranger.port
        finally:
            lock.release()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "does not answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not answer"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found", "no otf serve of this"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "cannot read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}", "does not answer"),
        (
            b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 26\r\n\r\n{"error": "Wrong token.",\n}',
            "no otf serve of this",
        ),
        (
            b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 25\r\n\r\n{"error": "Wrong token."}',
            "lets nobody in. Wrong token.",
        ),
    ],
)
def test_a_server_that_answers_otherwise_is_said(home, answer, words):
    with posing(home, answer) as port:
        message = said(invoke(app, "pause", "--port", port), 3)
    assert words in message
    assert message.startswith("error: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(("status", "code"), [(400, 2), (409, 2), (500, 1)])
def test_what_the_server_refuses_is_said(home, status, code):
    body = b'{"error": "No such thing."}'
    answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    with posing(home, answer) as port:
        assert said(invoke(app, "pause", "--port", port), code) == "error: No such thing.\n"


def test_a_server_that_goes_while_it_is_waited_for_is_said(start, port, home, monkeypatch):
    monkeypatch.setattr(client_module, "_LOOK_SECONDS", {True: 0.1, False: 0.1})
    store = make_session(home, started())
    server = start("--json", "--port", port)
    server.ready()
    with LiveTrainer(home, port, store) as trainer:

        def react(request):
            server.process.kill()

        trainer.react = react
        message = said(invoke(app, "pause", "--port", port), 3)
    assert "does not answer" in message
    assert "Start it again: otf serve." in message
    assert message.endswith("What became of the command is shown by: otf ctl list\n")
    store.close()


def test_a_damaged_session_is_said(place, store, tmp_path):
    damaged = make_session(place.home, started())
    damaged.close()
    (damaged.folder / "session.sqlite").write_bytes(b"no database" * 1000)
    try:
        message = said(place.ctl("list", "--session", damaged.id), 1)
        assert damaged.id in message
        assert "cannot be read" in said(place.ctl("pause", "--session", damaged.id), 1)
    finally:
        (damaged.folder / "session.sqlite").unlink()


@pytest.mark.parametrize("named", [True, False])
def test_a_home_that_cannot_be_read_is_said_however_it_is_named(home, monkeypatch, named):
    def denied(path, *words, **options):
        raise PermissionError(13, "Permission denied")

    home.ensure()
    # Root may read everything: the system's answers to somebody else.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(Path, "read_text", denied)
    words = ["--home", home.path] if named else []
    assert "token cannot be read: Permission denied" in said(invoke(app, "pause", *words), 3)


def test_a_token_that_cannot_be_read_is_said(home):
    home.ensure()
    home.token_file.mkdir()
    assert "The token file" in said(invoke(app, "pause"), 3)


def test_the_client_says_it_in_its_own_words(home):
    with pytest.raises(NotReachable, match="No otf serve of the home"):
        client_module.find_server(home, "127.0.0.1", free_port())


# The command itself


def test_every_command_and_option_is_explained():
    assert undocumented(app) == []


def test_the_exit_codes_are_in_the_help():
    text = " ".join(invoke(app, "--help").stdout.split())
    for words in ("0 applied", "1 refused", "2 typed wrongly", "3 no server", "4 no outcome"):
        assert words in text


_HEAVY = ["starlette", "uvicorn", "websockets", "peewee", "rich", "asyncio", "torch", "otf_hooks"]


@pytest.fixture(scope="module")
def heavy():
    """What takes long to import, but for what Typer itself does (older ones import rich)."""
    return sorted(set(_HEAVY) - set(modules_after("import typer", _HEAVY)))


def test_a_pause_imports_nothing_that_takes_long(place, trainer, heavy):
    words = ["pause", "--home", str(place.home.path), "--port", str(place.port)]
    statement = f"import otf_serve.ctl_cli as cli; cli.app({words!r})"
    assert modules_after(statement, [*heavy, "otf_serve.ctl"]) == ["otf_serve.ctl"]
    assert trainer.asked[0].command == Pause()


def test_the_module_imports_nothing_but_typer(heavy):
    assert modules_after("import otf_serve.ctl_cli", [*heavy, "msgspec", "http.client"]) == []


def test_it_is_a_command_of_otf_and_one_of_its_own():
    from importlib.metadata import entry_points

    found = entry_points()
    for group, name in (("otf.commands", "ctl"), ("console_scripts", "otf-ctl")):
        chosen = found.select(group=group) if hasattr(found, "select") else found[group]
        assert {each.value for each in chosen if each.name == name} == {"otf_serve.ctl_cli:app"}
