import json

import pytest
from otf_session import queries
from otf_session.events import RunState
from otf_session.home import DATABASE
from otf_session.store import SessionReader, SessionStore
from otf_session.summaries import LogPage, Snapshot

from ..helpers.sessions import line, losses, metrics, started, state, stored
from ..helpers.vocabulary import EVENTS
from .peers import decode, joined, refused, serve, settings_for


def test_health_says_which_server_it_is(api, home, settings):
    import os

    found = api.get("/healthz").json()
    assert found == {
        "app": "otf-serve",
        "version": settings.version,
        "pid": os.getpid(),
        "home": str(home.path),
    }


def test_no_sessions_are_an_empty_list(api, home):
    response = api.get("/api/sessions")
    assert (response.status_code, response.json()) == (200, [])
    assert response.headers["cache-control"] == "no-store"


def test_sessions_are_listed_the_newest_last(api, make, monkeypatch):
    ids = iter(["20260102-100000-bbbb", "20260101-100000-aaaa"])
    monkeypatch.setattr("otf_session.home.new_id", lambda others: next(ids))
    make(started(), losses(1, 5), project="two")
    make(project="one")
    found = api.get("/api/sessions").json()
    assert [each["project"] for each in found] == ["one", "two"]
    assert found[1]["runs"][0]["latest"] == {"loss": 0.2}
    assert [each["connected"] for each in found] == [False, False]


def test_a_damaged_session_is_left_out_of_the_list(api, make):
    whole, damaged = make(started()), make(started())
    damaged.close()
    (damaged.folder / DATABASE).write_bytes(b"no database" * 1000)
    assert [each["id"] for each in api.get("/api/sessions").json()] == [whole.id]
    assert damaged.id in refused(api.get(f"/api/sessions/{damaged.id}"), 500)


def test_a_session_that_was_not_finished_making_is_left_out_of_the_list(api, make, home):
    whole = make(started())
    half = home.sessions / "20260101-000000-half"
    half.mkdir()
    SessionStore(half).close()
    assert [each["id"] for each in api.get("/api/sessions").json()] == [whole.id]
    assert "holds no session" in refused(api.get(f"/api/sessions/{half.name}"), 500)


def test_a_session_is_its_summary(api, make):
    store = make(started(), losses(1, 5), state(RunState.FINISHED, step=5))
    found = api.get(f"/api/sessions/{store.id}").json()
    assert found == next(iter(api.get("/api/sessions").json()))
    assert (found["id"], found["state"], found["last_seq"]) == (store.id, "finished", 3)


def test_a_connected_trainer_makes_its_session_connected(api, make):
    store, other = make(started()), make(started())
    with joined(api, store):
        assert api.get(f"/api/sessions/{store.id}").json()["connected"] is True
        assert api.get(f"/api/sessions/{store.id}").json()["state"] == "starting"
        assert api.get(f"/api/sessions/{other.id}").json()["state"] == "lost"
        snapshot = api.get(f"/api/sessions/{store.id}/snapshot").json()
        assert snapshot["session"]["connected"] is True


def test_a_snapshot_is_the_session_as_it_is(api, make):
    store = make(*EVENTS)
    found = decode(api.get(f"/api/sessions/{store.id}/snapshot").content, Snapshot)
    with SessionReader(store.folder) as reader:
        assert found == queries.snapshot(reader, points=1000)
    assert found.seq == len(EVENTS)


@pytest.mark.parametrize(
    ("asked", "points"),
    [
        ("", 1000),
        ("?points=100", 100),
        ("?points=1", 10),
        ("?points=-5", 10),
        ("?points=99999", 20_000),
    ],
)
@pytest.mark.parametrize("route", ["snapshot", "metrics"])
def test_points_are_kept_within_reason(api, make, monkeypatch, route, asked, points):
    store = make(started(), losses(1, 50))
    seen = []
    real = queries.series

    def series(database, **options):
        seen.append(options["points"])
        return real(database, **options)

    monkeypatch.setattr(queries, "series", series)
    assert api.get(f"/api/sessions/{store.id}/{route}{asked}").status_code == 200
    assert seen == [points]


def test_metrics_are_thinned(api, make):
    store = make(started(), *[losses(step, step + 99) for step in range(1, 5000, 100)])
    (found,) = api.get(f"/api/sessions/{store.id}/metrics?points=100").json()
    assert found["count"] == 5000
    assert 90 <= len(found["steps"]) <= 110
    assert (found["steps"][0], found["steps"][-1]) == (1, 5000)


def test_metrics_are_chosen_by_run_name_and_range(api, make):
    store = make(
        started("a"),
        started("b"),
        metrics(range(1, 21), run="a", loss=[0.5] * 20, accuracy=[None] * 20),
        metrics(range(1, 21), run="b", loss=[0.25] * 20),
    )
    address = f"/api/sessions/{store.id}/metrics"

    def found(query):
        return [
            (each["run"], each["name"], each["steps"]) for each in api.get(address + query).json()
        ]

    every = list(range(1, 21))
    assert found("") == [("a", "accuracy", every), ("a", "loss", every), ("b", "loss", every)]
    assert found("?run=a&name=loss") == [("a", "loss", every)]
    assert found("?run=a&run=b&name=loss&from=5&to=7") == [
        ("a", "loss", [5, 6, 7]),
        ("b", "loss", [5, 6, 7]),
    ]
    assert found("?run=b&from=19") == [("b", "loss", [19, 20])]
    assert found("?run=b&to=2") == [("b", "loss", [1, 2])]
    assert found("?run=b&from=7&to=5") == [("b", "loss", [])]
    assert found("?run=nobody") == []
    (gaps,) = api.get(address + "?name=accuracy&to=2").json()
    assert gaps["values"] == [None, None]


def test_a_range_without_an_end_is_not_coarser(api, make):
    store = make(started(), *[losses(step, step + 99) for step in range(1, 5000, 100)])
    address = f"/api/sessions/{store.id}/metrics?points=100"
    assert api.get(address + "&from=1").json() == api.get(address).json()


def test_the_connected_trainers_are_listed_the_newest_last(api, make, monkeypatch):
    assert api.get("/api/trainers").json() == []
    ids = iter(["20260102-100000-bbbb", "20260101-100000-aaaa", "20260103-100000-cccc"])
    monkeypatch.setattr("otf_session.home.new_id", lambda others: next(ids))
    newer, older, _ = make(started()), make(started()), make(started())
    with joined(api, newer), joined(api, older):
        assert api.get("/api/trainers").json() == [older.id, newer.id]
    assert api.get("/api/trainers").json() == []


def test_the_log_is_paged(api, make):
    store = make(started(), *[line(number) for number in range(1, 8)])
    address = f"/api/sessions/{store.id}/logs"
    newest = decode(api.get(address + "?limit=3").content, LogPage)
    assert ([entry.seq for entry in newest.entries], newest.more) == ([6, 7, 8], True)
    older = decode(api.get(address + "?limit=3&before=6").content, LogPage)
    assert ([entry.seq for entry in older.entries], older.more) == ([3, 4, 5], True)
    oldest = decode(api.get(address + "?limit=3&before=3").content, LogPage)
    assert ([entry.seq for entry in oldest.entries], oldest.more) == ([2], False)
    assert oldest.entries[0].line == line(1)
    assert len(decode(api.get(address).content, LogPage).entries) == 7
    assert len(decode(api.get(address + "?limit=0").content, LogPage).entries) == 1


_READS = ["", "/snapshot", "/metrics", "/logs"]


@pytest.mark.parametrize("route", _READS)
@pytest.mark.parametrize("session", ["nothing", "%2e%2e", "..%5c..", "a%00b", "x" * 300])
def test_a_session_that_does_not_exist_is_not_found(api, make, session, route):
    make(started())
    message = refused(api.get(f"/api/sessions/{session}{route}"), 404)
    assert "There is no session" in message


@pytest.mark.parametrize("route", _READS)
def test_a_session_answers_to_a_part_of_its_id_and_as_the_latest(api, make, route):
    store = make(started(), line(1), losses(1, 3))
    with joined(api, store):
        found = api.get(f"/api/sessions/{store.id}{route}")
        assert found.status_code == 200
        for name in (store.id[:-1], store.id.rpartition("-")[2], "latest"):
            other = api.get(f"/api/sessions/{name}{route}")
            assert (other.status_code, other.json()) == (200, found.json())


@pytest.mark.parametrize("route", _READS)
def test_a_part_of_several_ids_is_ambiguous(api, make, route):
    make(started()), make(started())
    message = refused(api.get(f"/api/sessions/2{route}"), 409)
    assert "2 sessions begin with '2'" in message


@pytest.mark.parametrize(
    "query",
    [
        *("snapshot?points=many", "metrics?points=1.5", "metrics?points="),
        *("metrics?from=a", "metrics?to=1e3", "logs?before=x", "logs?limit=None"),
        *(f"logs?before={10**30}", f"metrics?from={10**30}", f"metrics?to=-{10**30}"),
        f"metrics?from={'9' * 5000}",
    ],
)
def test_a_parameter_that_is_no_usable_number_is_named(api, make, query):
    store = make(started(), losses(1, 5))
    name = query.partition("?")[2].partition("=")[0]
    message = refused(api.get(f"/api/sessions/{store.id}/{query}"), 400)
    assert message.startswith(f"{name} is '")
    assert "whole number" in message


def test_reading_a_session_changes_nothing_in_it(api, make):
    store = make(*EVENTS)
    for route in (*_READS, "/commands"):
        assert api.get(f"/api/sessions/{store.id}{route}").status_code == 200
    assert stored(store) == EVENTS


# The page


@pytest.fixture
def static(tmp_path):
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<title>OnTheFly</title>")
    (folder / "assets" / "main.js").write_text("start()")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def pages(home, static):
    from .peers import BEARER

    with serve(settings_for(home, static=static)) as client:
        client.headers.update(BEARER)
        yield client


def test_the_page_and_its_assets_are_served(pages):
    page = pages.get("/")
    assert page.text == "<title>OnTheFly</title>"
    assert page.headers["cache-control"] == "no-store"
    asset = pages.get("/assets/main.js")
    assert asset.text == "start()"
    assert "javascript" in asset.headers["content-type"]


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/assets/../../secret.txt"),
        *(
            "/assets/%2e%2e/%2e%2e/secret.txt",
            "//etc/passwd",
            "/..%5csecret.txt",
            "/assets",
        ),
        *("/static/index.html", "/" + "x" * 300, "/api/nothing"),
    ],
)
def test_no_path_leads_out_of_the_page_s_folder(pages, path):
    # Joined by hand: the client would tidy the path up.
    response = pages.get(f"http://127.0.0.1:4444{path}")
    assert response.status_code in (404, 405)
    assert "secret" not in response.text
    assert "root:" not in response.text


def test_a_path_as_a_socket_brings_it_leads_nowhere(pages, static):
    """Without any client's tidying: the ASGI scope is made by hand."""
    import anyio

    sent = []

    async def request(path):
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer token-of-the-tests")],
        }
        await pages.app(scope, receive, send)

    for path in ["/../secret.txt", "/assets/../../secret.txt", "/..", "/./../secret.txt"]:
        anyio.run(request, path)
    statuses = [each["status"] for each in sent if each["type"] == "http.response.start"]
    assert statuses == [404] * 4
    assert b"secret" not in b"".join(each.get("body", b"") for each in sent)


def test_a_checkout_without_the_page_says_what_to_run(home, tmp_path):
    from .peers import BEARER

    with serve(settings_for(home, static=tmp_path / "missing")) as client:
        response = client.get("/", headers=BEARER)
        assert (response.status_code, "nox -s dashboard" in response.text) == (503, True)
        assert client.get("/healthz", headers=BEARER).status_code == 200
        assert client.get("/assets/main.js", headers=BEARER).status_code == 404


def test_errors_are_json_without_line_breaks(api):
    text = api.get("/api/sessions/nothing").text
    assert json.loads(text)
    assert "\n" not in text
