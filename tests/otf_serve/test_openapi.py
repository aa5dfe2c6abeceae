"""The API's description: held to the routes, to what handlers read, and to real replies."""

import ast
import json
import re
import sys
import time
from pathlib import Path

import otf_serve
import pytest
from otf_serve import jobs as jobs_module
from otf_serve.app import build
from otf_serve.endpoints import Asked
from otf_serve.http import ReadApi
from otf_serve.http_commands import CommandApi
from otf_serve.http_jobs import JobApi
from otf_serve.http_sessions import SessionApi
from otf_session.commands import Applied, Command, Pause
from otf_session.events import CommandStatus
from otf_session.home import Home
from otf_session.liveness import AliveLock
from starlette.requests import Request
from starlette.routing import Route

from ..helpers.sessions import losses, started
from ..helpers.vocabulary import EVENTS
from ..helpers.waiting import wait_for
from .peers import BEARER, SECONDS, InThread, changed, joined, settings_for
from .test_http_commands import request_of

SOURCES = Path(otf_serve.__file__).parent


@pytest.fixture
def document(api):
    response = api.get("/api/openapi.json")
    assert response.status_code == 200
    return response.json()


def operations(document):
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


# A small check of JSON Schema, of what msgspec makes use of


KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def faults(schema, value, components, where="$"):
    """Where a value is not as a schema says."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return faults(components[name], value, components, where)
    if "anyOf" in schema:
        found = [faults(each, value, components, where) for each in schema["anyOf"]]
        return [] if [] in found else [min(found, key=len)]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{where}: {value!r} of {schema['enum']}"]
    kind = schema.get("type")
    # To Python a bool is a number.
    if kind and not (
        isinstance(value, KINDS[kind]) and isinstance(value, bool) == (kind == "boolean")
    ):
        return [f"{where}: {value!r} is no {kind}"]
    if isinstance(value, list) and "items" in schema:
        return sum(
            [
                faults(schema["items"], each, components, f"{where}[{number}]")
                for number, each in enumerate(value)
            ],
            [],
        )
    if isinstance(value, dict) and "properties" in schema:
        missing = [
            f"{where}: no {name}" for name in schema.get("required", []) if name not in value
        ]
        unknown = [f"{where}: {name}?" for name in value if name not in schema["properties"]]
        inner = [
            faults(schema["properties"][name], value[name], components, f"{where}.{name}")
            for name in value
            if name in schema["properties"]
        ]
        return missing + unknown + sum(inner, [])
    return []


def test_the_check_finds_what_is_wrong(document):
    components = document["components"]["schemas"]
    schema = components["CommandReply"]
    reply = {
        "frame": "command-reply",
        "id": "1",
        "session": "s",
        "outcome": {"kind": "applied", "step": 1, "message": "", "result": None},
    }
    assert faults(schema, reply, components) == []
    for wrong in (
        {**reply, "id": 1},
        {**reply, "frame": "batch"},
        {**reply, "added": 1},
        {key: value for key, value in reply.items() if key != "session"},
        {**reply, "outcome": {**reply["outcome"], "step": "1"}},
        {**reply, "outcome": {**reply["outcome"], "step": True}},
        [],
        None,
    ):
        assert faults(schema, wrong, components) != []


# Both ways


def test_every_route_is_described_and_every_description_routed(document):
    routed = {
        (method, route.path)
        for route in build(settings_for(Home("nowhere")))._app.routes
        if isinstance(route, Route) and route.path != "/"
        for method in route.methods - {"HEAD"}
    }
    assert set(operations(document)) == routed
    assert ("POST", "/api/sessions/{session}/commands") in routed


def test_every_parameter_of_a_path_is_described(document):
    for (_, path), operation in operations(document).items():
        described = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path))
        assert all(each["required"] for each in operation["parameters"] if each["in"] == "path")


def endpoints():
    return [
        *ReadApi(None, None, None).endpoints(),
        *CommandApi(None, None).endpoints(),
        *SessionApi(None, None, settings_for(Home("nowhere")), None, None).endpoints(),
        *JobApi(None).endpoints(),
    ]


def read_by(handler, module_names):
    """The names of the parameters that a handler reads, also through functions of its module."""
    tree = ast.parse((SOURCES / f"{handler.__module__.rpartition('.')[2]}.py").read_text())
    functions = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    found, waiting, seen = set(), [handler.__name__], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "asked":
                found.add(module_names[node.slice.id].name)
            if isinstance(node, ast.Call):
                target = node.func
                waiting.append(getattr(target, "id", getattr(target, "attr", "")))
    return found


@pytest.mark.parametrize("endpoint", endpoints(), ids=lambda each: f"{each.method} {each.path}")
def test_a_handler_reads_the_parameters_that_are_described_and_no_others(document, endpoint):
    import sys

    operation = operations(document)[endpoint.method, endpoint.path]
    described = {each["name"] for each in operation["parameters"]}
    module = sys.modules[endpoint.handler.__module__]
    assert described == read_by(endpoint.handler, vars(module))


def test_handlers_have_no_other_way_to_the_request():
    for name in ("http.py", "http_commands.py", "http_sessions.py", "http_jobs.py"):
        text = (SOURCES / name).read_text()
        assert not re.search(r"query_params|path_params|headers|cookies|\bRequest\b", text), name


def test_a_parameter_that_is_not_declared_cannot_be_read():
    from otf_serve.http import LIMIT, POINTS

    request = Request({"type": "http", "query_string": b"points=50", "headers": []})
    asked = Asked(request, [POINTS])
    assert asked[POINTS] == 50
    with pytest.raises(AssertionError, match="limit is not declared"):
        asked[LIMIT]


def test_the_limits_that_are_described_are_those_that_hold(api, make, document):
    store = make(started(), *[losses(step, step + 999) for step in range(1, 30_000, 1000)])
    operation = operations(document)["GET", "/api/sessions/{session}/metrics"]
    (points,) = [each for each in operation["parameters"] if each["name"] == "points"]
    limits = points["schema"]
    path = f"/api/sessions/{store.id}/metrics"

    def count(query):
        (found,) = api.get(path + query).json()
        return len(found["steps"])

    assert count("") == count(f"?points={limits['default']}")
    assert count("?points=1") == count(f"?points={limits['minimum']}")
    assert count("?points=1000000") == count(f"?points={limits['maximum']}")


# What is sent and what is received


def test_the_body_of_a_command_may_be_any_command(document):
    operation = operations(document)["POST", "/api/sessions/{session}/commands"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    components = document["components"]["schemas"]
    named = {each["$ref"].rpartition("/")[2] for each in schema["anyOf"]}
    assert named == {kind.__name__ for kind in Command.__args__}
    assert faults(schema, {"kind": "set-hyperparameters", "values": {"lr": 0.1}}, components) == []
    assert faults(schema, {"kind": "explode"}, components) != []


def test_every_reference_is_to_something(document):
    named = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert named
    assert named <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def test_it_says_how_one_proves_who_one_is(document):
    (scheme,) = document["components"]["securitySchemes"].items()
    assert scheme == ("token", {"type": "http", "scheme": "bearer"})
    assert document["security"] == [{"token": []}]
    assert document["openapi"].startswith("3.1.")


def test_everything_is_explained(document):
    for key, operation in operations(document).items():
        assert operation["summary"].endswith("."), key
        assert {"401", "403"} <= set(operation["responses"])
        for parameter in operation["parameters"]:
            assert parameter["description"].endswith("."), (key, parameter["name"])
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(names) == len(set(names))


class Checked:
    """A client that holds every reply to the document, and knows which it has seen."""

    def __init__(self, api, document):
        self._api = api
        self._operations = operations(document)
        self._components = document["components"]["schemas"]
        self.seen = set()

    def __call__(self, method, path, **options):
        response = self._api.request(method, path, **options)
        bare = path.partition("?")[0]
        for (known, template), operation in self._operations.items():
            pattern = re.sub(r"{\w+}", "[^/]+", template)
            if known == method and re.fullmatch(pattern, bare):
                described = operation["responses"][str(response.status_code)]
                ((kind, content),) = described["content"].items()
                assert response.headers["content-type"] == kind
                if kind == "application/json":
                    assert faults(content["schema"], response.json(), self._components) == []
                self.seen.add((method, template, response.status_code))
                return response
        raise AssertionError(f"{method} {path} is not described")


def calls_about_sessions_as_a_whole(call, make, damaged, monkeypatch):
    """Every reply there can be to what is asked of sessions as a whole, and of jobs."""
    store = make(*EVENTS)
    one, broken, several = (f"/api/sessions/{name}" for name in (store.id, damaged.id, "20"))
    works = {
        "/verify": one + "/verify",
        "/export": one + "/export?checkpoints=none",
        "/metrics/export": one + "/metrics/export",
    }
    for path in ("/details", *works):
        method = "GET" if path == "/details" else "POST"
        call(method, one + path)
        for other in ("/api/sessions/nothing", several):
            call(method, other + path)
        if path != "/verify":
            call(method, broken + path)
    for path in works:
        call("POST", one + path + "?wait=x")
    call("POST", one + "/export?run=nothing")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyarrow", None)
        call("POST", one + "/metrics/export?format=parquet")
    with monkeypatch.context() as failing:
        failing.setattr("otf_serve.work.verify_session", lambda *words, **options: 1 / 0)
        failed = call("POST", one + "/verify?wait=0").json()["id"]
        call("GET", f"/api/jobs/{failed}")
        call("POST", one + "/verify")
    # Names.
    for given, content in [(one, "a name"), (one, "latest"), (one, "x" * 5000), (broken, "a")]:
        call("PUT", given + "/name", json={"name": content})
    call("PUT", one + "/name", json=5)
    for other in ("/api/sessions/nothing", several):
        call("PUT", other + "/name", json={"name": "a"})
    # A bundle goes, and comes.
    job = call("POST", works["/export"]).json()["id"]
    file = f"/api/jobs/{job}/file"
    bundle = call("GET", file).content
    for part in ("bytes=0-1", "bytes=99999999-", "bytes=" + "0" * 200):
        call("GET", file, headers={"range": part})
    call("GET", "/api/jobs/nothing/file")
    # It is there already.
    call("POST", "/api/sessions", content=bundle)
    job = call("POST", "/api/sessions?wait=0", content=bundle).json()["id"]
    call("GET", f"/api/jobs/{job}")
    call("POST", "/api/sessions?as_new=true", content=bundle)
    call("POST", "/api/sessions", content=b"no bundle")
    job = call("POST", "/api/sessions?wait=0", content=b"no bundle").json()["id"]
    call("GET", f"/api/jobs/{job}")
    call("POST", "/api/sessions?as_new=x", content=b"")
    call("POST", "/api/sessions", content=b"", headers={"content-length": str(10**18)})
    calls_about_jobs_that_are_cancelled(call, store, works, bundle, monkeypatch)
    call("DELETE", "/api/jobs/nothing")
    call("GET", f"/api/jobs/{job}?wait=x")
    call("GET", "/api/jobs/nothing")
    call("GET", "/api/jobs")
    call("DELETE", one + "?wait=x")
    call("DELETE", one)
    call("DELETE", broken)


def calls_about_jobs_that_are_cancelled(call, store, works, bundle, monkeypatch):
    """Every reply there can be to what is asked of jobs at work."""
    one, real = f"/api/sessions/{store.id}", jobs_module._checked
    with monkeypatch.context() as slowly:

        def checked(work, watcher):
            while slow and not watcher.is_cancelled():
                time.sleep(0.01)
            return real(work, watcher)

        slow = True
        slowly.setattr(jobs_module, "_checked", checked)
        for path, content in [*((path, b"") for path in works.values()), ("/api/sessions", bundle)]:
            asked = InThread(call, "POST", path, content=content)
            job = wait_for(lambda: running(call), "the job", SECONDS)
            call("GET", f"/api/jobs/{job}?wait=0")
            call("DELETE", f"/api/jobs/{job}")
            asked.result()
            call("GET", f"/api/jobs/{job}")
            mark = "&" if "?" in path else "?"
            job = call("POST", f"{path}{mark}wait=0", content=content).json()["id"]
            call("DELETE", f"/api/jobs/{job}")
        lock = AliveLock(store.folder)
        assert lock.acquire()
        call("DELETE", one)
        lock.release()
        store.close()
        job = call("DELETE", one + "?wait=0").json()["id"]
        call("DELETE", f"/api/jobs/{job}")
        slow = False
        call("GET", f"/api/jobs/{job}")


def running(call):
    """The id of the job that is at work; none where all have ended."""
    found = [job["id"] for job in call("GET", "/api/jobs").json() if job["state"] == "running"]
    return found[0] if found else None


def test_real_replies_are_as_the_document_says(api, make, document, monkeypatch):
    call = Checked(api, document)
    store, other = make(*EVENTS), make(started(), changed(request_of(), CommandStatus.RECEIVED))
    one = f"/api/sessions/{store.id}"
    for path in ("/healthz", "/api/trainers", "/api/sessions", "/api/openapi.json", one):
        call("GET", path)
    for path in ("/snapshot?points=10", "/metrics", "/logs", "/commands"):
        call("GET", one + path)
        call("GET", "/api/sessions/nothing" + path)
    call("GET", "/api/sessions/nothing")
    for query in ("/snapshot?points=x", "/metrics?from=x", "/logs?limit=x"):
        call("GET", one + query)
    commands = one + "/commands"
    # Refused, because nobody is there; then queued, applied, and looked at.
    call("POST", commands, json={"kind": "pause"})
    with joined(api, store) as trainer:
        pending = call("POST", commands + "?wait=0", json={"kind": "pause"}).json()
        trainer.receive()
        trainer.progress(pending["id"], 3)
        call("GET", f"{commands}/{pending['id']}?wait=0")
        waiting = InThread(call, "POST", commands, json={"kind": "pause"})
        trainer.reply(trainer.receive().id, EVENTS[9].outcome)
        assert waiting.result().json()["outcome"]["result"]["kind"] == "hyperparameters-set"
        trainer.reply(pending["id"], Applied(step=1))
        call("GET", f"{commands}/{pending['id']}?wait=5")
    call("GET", f"/api/sessions/{other.id}/commands/c0ffee")
    call("GET", commands + "/unknown")
    call("GET", commands + "/unknown?wait=x")
    call("POST", commands + "?wait=x", json={"kind": "pause"})
    call("POST", commands, content=b"x" * 70_000)
    call("POST", "/api/sessions/nothing/commands", json={"kind": "pause"})
    for path in ("", "/snapshot", "/metrics", "/logs", "/commands", "/commands/unknown"):
        call("GET", "/api/sessions/20" + path)
    call("POST", "/api/sessions/20/commands", json={"kind": "pause"})
    # Damaged.
    other.close()
    (other.folder / "session.sqlite").write_bytes(b"no database" * 1000)
    for path in ("", "/snapshot", "/metrics", "/logs", "/commands", "/commands/unknown"):
        call("GET", f"/api/sessions/{other.id}{path}")
    calls_about_sessions_as_a_whole(call, make, other, monkeypatch)
    described = {
        (method, path, int(status))
        for (method, path), operation in operations(document).items()
        for status in operation["responses"]
        if status not in ("401", "403")
    }
    # A home that cannot be read, or not be written, which other tests see to.
    unseen = {
        ("GET", "/api/sessions", 500),
        ("POST", "/api/sessions/{session}/commands", 500),
        ("POST", "/api/sessions", 500),
        ("DELETE", "/api/sessions/{session}", 500),
    }
    assert described - call.seen == unseen


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({**BEARER, "host": "evil.example"}, 403)]
)
def test_a_denial_is_as_the_document_says(client, document, headers, status):
    client.headers.pop("authorization", None)
    response = client.get("/api/sessions", headers=headers)
    assert response.status_code == status
    described = operations(document)["GET", "/api/sessions"]["responses"][str(status)]
    schema = described["content"]["application/json"]["schema"]
    assert faults(schema, response.json(), document["components"]["schemas"]) == []


def test_a_command_as_described_is_taken(api, make):
    store = make(started())
    with joined(api, store) as trainer:
        asked = InThread(
            api.post, f"/api/sessions/{store.id}/commands", json={"kind": "pause", "release": False}
        )
        assert trainer.answer(Applied(step=1)).request.command == Pause()
        asked.result()
