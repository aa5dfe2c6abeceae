"""Nobody without the token talks to the server, and no web page does so in its owner's name."""

import json
import socket

import pytest
from otf_serve.app import build
from otf_serve.auth import Guard
from otf_session.frames import TrainerHello, encode
from otf_session.home import Home
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from .peers import BEARER, HOST, PORT, TOKEN, TestClient, connect, serve, settings_for

COOKIE = f"otf-token-{PORT}={TOKEN}"
ORIGIN = f"http://{HOST}"


def routes():
    """Every way in: the kind, the method and the path, as the application lists them."""
    guard = build(settings_for(Home("nowhere")))
    assert isinstance(guard, Guard)
    found = []
    for route in guard._app.routes:
        if isinstance(route, WebSocketRoute):
            found.append(("ws", "GET", route.path))
        elif isinstance(route, Mount):
            found.append(("http", "GET", route.path + "/assets/anything.js"))
        else:
            path = route.path.replace("{session}", "20260101-000000-abcd")
            found += [("http", method, path) for method in sorted(route.methods)]
    return [*found, ("http", "GET", "/not/there"), ("http", "PATCH", "/healthz")]


ROUTES = routes()
HTTP = [(method, path) for kind, method, path in ROUTES if kind == "http"]
SOCKETS = [path for kind, _, path in ROUTES if kind == "ws"]

# What is wrong with them, and the status.
BAD = {
    "no token": ({}, 401),
    "an empty token": ({"authorization": "Bearer "}, 401),
    "a wrong token": ({"authorization": f"Bearer {TOKEN}x"}, 401),
    "a part of the token": ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
    "another scheme": ({"authorization": f"Basic {TOKEN}"}, 401),
    "the bare token": ({"authorization": TOKEN}, 401),
    "a token that is not ASCII": ({"authorization": "Bearer \u00fcmlaut"}, 401),
    "a wrong cookie": ({"cookie": f"otf-token-{PORT}=wrong", "origin": ORIGIN}, 401),
    "a cookie of another port": ({"cookie": f"otf-token-1={TOKEN}", "origin": ORIGIN}, 401),
    "a cookie that is none": ({"cookie": ";;=\u00fc;", "origin": ORIGIN}, 401),
    "a foreign host": ({**BEARER, "host": "evil.example"}, 403),
    "a foreign host with the port": ({**BEARER, "host": f"evil.example:{PORT}"}, 403),
    "a host that begins like ours": ({**BEARER, "host": "localhost.evil.example"}, 403),
    "an empty host": ({**BEARER, "host": ""}, 403),
    "a host that is none": ({**BEARER, "host": "[::1"}, 403),
    "a foreign origin": ({**BEARER, "origin": "https://evil.example"}, 403),
    "a foreign origin with a cookie": ({"cookie": COOKIE, "origin": "http://evil.example"}, 403),
    "the origin of another port": ({"cookie": COOKIE, "origin": "http://127.0.0.1:8888"}, 403),
    "the origin of a file": ({"cookie": COOKIE, "origin": "null"}, 403),
    "an origin that is none": ({**BEARER, "origin": "http://[::1"}, 403),
    "an origin of another scheme": ({**BEARER, "origin": f"vscode-webview://{HOST}"}, 403),
}
GOOD = {
    "bearer": BEARER,
    "bearer in other letters": {"authorization": f"bEARER  {TOKEN}"},
    "bearer with our origin": {**BEARER, "origin": ORIGIN},
    "cookie with our origin": {"cookie": COOKIE, "origin": ORIGIN},
    "cookie among others": {"cookie": f"a=b; {COOKIE}; c=d", "origin": ORIGIN},
    "cookie beside unusual ones": {"cookie": f'a={{"b": [1, 2]}}; {COOKIE}', "origin": ORIGIN},
    "localhost": {**BEARER, "host": "localhost"},
    "localhost with a port": {**BEARER, "host": f"LocalHost:{PORT}"},
    "IPv6": {**BEARER, "host": f"[::1]:{PORT}", "origin": f"http://[::1]:{PORT}"},
    "IPv6 without a port": {**BEARER, "host": "[::1]"},
    "the machine's name": {**BEARER, "host": f"{socket.gethostname()}:{PORT}"},
    "an address": {**BEARER, "host": "192.168.1.7:80"},
    "a tunnel's port": {**BEARER, "host": "localhost:9999", "origin": "http://localhost:9999"},
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """One server for all who are sent away."""
    with serve(settings_for(Home(tmp_path_factory.mktemp("home")))) as client:
        yield client


def raw(headers):
    return {name: value.encode("utf-8") for name, value in headers.items()}


def test_the_ways_in_are_known():
    assert ("POST", "/api/sessions/20260101-000000-abcd/commands") in HTTP
    assert ("GET", "/assets/anything.js") in HTTP
    assert ("GET", "/") in HTTP
    assert SOCKETS == ["/ws/trainer", "/ws/dashboard"]


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize(("method", "path"), HTTP)
def test_a_request_is_refused(guarded, method, path, what):
    headers, status = BAD[what]
    response = guarded.request(method, path, headers=raw(headers))
    assert response.status_code == status
    found = json.loads(response.text) if response.text else response.request.method
    assert found == "HEAD" or set(found) == {"error", "app"}
    assert TOKEN not in response.text
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("what", [*BAD, "a cookie without an origin"])
@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_is_refused(guarded, path, what):
    headers, _ = BAD.get(what, ({"cookie": COOKIE}, 403))
    headers = raw({"host": HOST, **headers})
    with pytest.raises(WebSocketDisconnect) as caught, connect(guarded, path, **headers):
        pass
    assert caught.value.code == 1008
    assert TOKEN not in caught.value.reason


@pytest.mark.parametrize("what", GOOD)
def test_a_request_with_the_token_is_served(guarded, what):
    response = guarded.get("/healthz", headers=raw(GOOD[what]))
    assert (response.status_code, response.json()["app"]) == (200, "otf-serve")


@pytest.mark.parametrize("what", GOOD)
@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_with_the_token_is_opened(guarded, path, what):
    with connect(guarded, path, **raw({"host": HOST, **GOOD[what]})) as session:
        if path == "/ws/trainer":
            session.send_text(encode(TrainerHello(session="none", last_seq=0)))
        assert session.receive_json()["frame"] in ("dashboard-welcome", "refusal")


def test_a_request_with_a_cookie_needs_no_origin(guarded):
    # Browsers send none when an address is typed.
    response = guarded.get("/healthz", headers={"cookie": COOKIE})
    assert response.status_code == 200


def test_the_name_that_the_server_is_bound_to_is_a_host(home):
    with serve(settings_for(home, host="Devbox.Example")) as client:
        ours = client.get("/healthz", headers={**BEARER, "host": f"devbox.example:{PORT}"})
        other = client.get("/healthz", headers={**BEARER, "host": f"other.example:{PORT}"})
    assert (ours.status_code, other.status_code) == (200, 403)


def test_the_link_is_exchanged_for_a_cookie(client):
    response = client.get(f"/?token={TOKEN}")
    assert response.status_code == 303
    assert response.headers["location"] == "/"
    cookie = response.headers["set-cookie"].lower()
    assert cookie.startswith(f"{COOKIE.lower()};")
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert TOKEN not in response.text
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", "%ff", "\u00fc", f"{TOKEN}%00"])
def test_a_link_with_another_token_is_refused(client, token):
    response = client.get(f"/?token={token}")
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


def test_the_link_of_a_foreign_host_is_refused(client):
    response = client.get(f"/?token={TOKEN}", headers={"host": "evil.example"})
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    "headers", [{}, {"cookie": f"otf-token-{PORT}=of-another-home"}], ids=["new", "stale"]
)
@pytest.mark.parametrize("query", ["", "?token=wrong"])
def test_a_person_without_the_token_is_told_what_to_do(guarded, headers, query):
    response = guarded.get(f"/{query}", headers={**BROWSER, **headers})
    assert response.status_code == 401
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "<code>otf serve</code>" in response.text
    assert "open the link that it prints" in response.text
    for forbidden in ("<script", "<style", "style=", "onload", TOKEN):
        assert forbidden not in response.text


def test_a_stranger_s_words_are_no_markup(guarded):
    headers = {**BROWSER, **BEARER, "host": "<script>evil</script>"}
    response = guarded.get("/", headers=headers)
    assert response.status_code == 403
    assert "<script" not in response.text
    assert "&lt;script&gt;" in response.text


@pytest.mark.parametrize("path", ["/api/sessions", "/healthz"])
def test_programs_get_json_whatever_they_accept(guarded, path):
    response = guarded.get(path, headers=BROWSER)
    assert (response.status_code, set(response.json())) == (401, {"error", "app"})


@pytest.mark.parametrize("path", ["/healthz", "/api/sessions", "/assets/anything.js", "//"])
def test_the_token_in_an_address_opens_the_link_alone(client, path):
    assert client.get(f"http://{HOST}{path}?token={TOKEN}").status_code == 401


@pytest.mark.parametrize("path", SOCKETS)
def test_the_token_in_an_address_opens_no_socket(client, path):
    with pytest.raises(WebSocketDisconnect), connect(client, f"{path}?token={TOKEN}", host=HOST):
        pass


@pytest.mark.parametrize("headers", [BEARER, {}, {**BEARER, "host": "evil.example"}])
@pytest.mark.parametrize(("method", "path"), [*HTTP, ("GET", f"/?token={TOKEN}")])
def test_every_response_says_what_its_page_may_do(guarded, method, path, headers):
    response = guarded.request(method, path, headers=headers)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in response.headers


def test_a_fault_in_the_server_is_a_reply_with_the_same_headers(settings, monkeypatch):
    def fault(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("otf_serve.catalog.Catalog.summaries", fault)
    client = TestClient(build(settings), base_url=f"http://{HOST}", raise_server_exceptions=False)
    response = client.get("/api/sessions", headers=BEARER)
    assert response.status_code == 500
    assert "ZeroDivisionError" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
