"""The admin server: what it answers, whom it refuses, what it withstands; and
docs/use/admin-api.yaml and docs/use/admin-api.md, held against it."""

import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import time

import grpc
import jsonschema
import pytest
import yaml

import harness

LIMITS = """
limits:
  - name: login
    path: /login
    by: [user]
    capacity: 5
    refill: 1 per 1h
    overrides:
      - {user: root, unlimited: true}
      - {user: eve, capacity: 0}
      - {user: bot, capacity: 100, refill: 10 per 1m}
  - name: tenants
    path: /api/*
    attributes: {plan: free}
    by: [user, attributes.tenant]
    capacity: 10
    refill: 1 per 1h
    cost: 2
    shadow: true
"""
JSON = {"Content-Type": "application/json"}


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def code(self):
        return self.json["error"]["code"]


def ask(daemon, method, path, body=None, headers=None) -> Answer:
    """`body`: bytes as they are, anything else as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.admin_port, timeout=20)
    with contextlib.closing(connection):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent = (JSON if body is not None else {}) | (headers or {})
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode())


def get(daemon, path, **headers) -> Answer:
    return ask(daemon, "GET", path, headers=headers)


def post(daemon, name, /, **fields) -> Answer:
    return ask(daemon, "POST", f"/api/v1/{name}", fields)


def raw(daemon, request: bytes) -> bytes:
    """What comes for the very bytes of a request, up to the end."""
    with socket.create_connection(("127.0.0.1", daemon.admin_port), 20) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                received += part
        return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.fixture(scope="module")
def redis():
    with harness.redis_server() as server:
        yield server


def settings_of(store, redis, **more) -> dict:
    place = {"STORE": "memory"} if store == "memory" else {"REDIS_URL": redis.url}
    return place | {"ADMIN_PORT": 0} | more


@pytest.fixture(scope="module")
def limits_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("limits") / "limits.yaml"
    path.write_text(LIMITS)
    return path


@pytest.fixture(scope="module", params=["memory", "redis"])
def daemon(request, redis, limits_file):
    with harness.daemon(**settings_of(request.param, redis, LIMITS_FILE=limits_file)) as running:
        running.store = request.param
        yield running


@pytest.fixture(scope="module")
def lonely():
    """In memory, without a limits file."""
    with harness.daemon(STORE="memory", ADMIN_PORT=0) as running:
        yield running


# --- What it does ---


def test_is_off_unless_it_is_asked_for():
    with harness.daemon(STORE="memory") as daemon:
        assert daemon.admin_port is None and "admin" not in daemon.start_line


def test_the_start_line_tells_where_it_is(daemon):
    assert f", admin on 127.0.0.1 port {daemon.admin_port}, store " in daemon.start_line
    assert daemon.admin_port != 0


def test_shows_the_limits_in_force(daemon, limits_file):
    shown = get(daemon, "/api/v1/limits").json
    assert shown["file"] == str(limits_file) and shown["hash_by"] == "user"
    login, tenants = shown["limits"]
    assert login == {
        "name": "login", "path": "/login", "attributes": {}, "by": ["user"], "capacity": 5,
        "refill": {"tokens": 1, "interval": "1h"}, "cost": 1, "shadow": False, "fail_mode": None,
        "overrides": [{"user": "root", "unlimited": True},
                      {"user": "eve", "capacity": 0, "refill": None},
                      {"user": "bot", "capacity": 100, "refill": {"tokens": 10, "interval": "1m"}}]}
    assert tenants["by"] == ["user", "attributes.tenant"]
    assert tenants["attributes"] == {"plan": "free"}
    assert tenants["cost"] == 2 and tenants["shadow"] is True and tenants["overrides"] == []


def test_shows_the_limit_of_the_settings(lonely):
    shown = get(lonely, "/api/v1/limits").json
    assert (shown["file"], shown["loaded_at"]) == (None, None)
    assert [limit["name"] for limit in shown["limits"]] == ["default"]


def test_tells_the_version(daemon):
    version = harness.run_to_end("--version").stdout.split()[-1]
    assert get(daemon, "/api/v1/version").json == {"version": version}


def test_an_explanation_names_the_keys_of_the_store(daemon, redis):
    user = "ex:plain {%}"
    attributes = {"plan": "free", "tenant": "a:b"}
    login = post(daemon, "explain", user_id=user, path="/login").json["limits"][0]
    tenants = post(daemon, "explain", user_id=user, path="/api/x", attributes=attributes,
                   cost=3).json["limits"][1]
    assert (login["cost"], tenants["cost"]) == (1, 6)
    if daemon.store == "redis":
        for bucket in (login, tenants):
            assert redis.cli("EXISTS", bucket["key"]) == "0", "it takes nothing"
        daemon.allow(user, "/login")
        daemon.allow(user, "/api/x", attributes=attributes, cost=3)
        assert redis.cli("HGET", login["key"], "tokens") == "4"
        assert redis.cli("HGET", tenants["key"], "tokens") == "4"
    else:
        assert login["key"].startswith("login:{") and tenants["key"].startswith("tenants:{")


def test_a_reset_fills_the_users_buckets(daemon):
    attributes = {"plan": "free", "tenant": "t"}
    for user in ("reset", "other"):
        assert daemon.allow(user, "/login", cost=5)["remaining"] == 0
    daemon.allow("reset", "/api/x", attributes=attributes)
    assert post(daemon, "reset", user_id="reset", path="/login").json == {
        "limits": [{"name": "login", "remaining": 5, "limit": 5}]}
    assert daemon.allow("reset", "/login", cost=0)["remaining"] == 5
    assert daemon.allow("other", "/login", cost=0)["remaining"] == 0
    assert post(daemon, "reset", user_id="reset", path="/api/x", attributes=attributes).json == {
        "limits": [{"name": "tenants", "remaining": 10, "limit": 10}]}
    assert post(daemon, "reset", user_id="reset", path="/elsewhere").json == {"limits": []}


def test_a_refund_gives_back_what_was_paid(daemon):
    assert daemon.allow("refund", "/login", cost=4)["remaining"] == 1
    for cost, left in ((None, 2), (2, 4), (1000, 5)):
        fields = {} if cost is None else {"cost": cost}
        assert post(daemon, "refund", user_id="refund", path="/login", **fields).json == {
            "limits": [{"name": "login", "remaining": left, "limit": 5}]}
    assert daemon.allow("refund", "/login", cost=0)["remaining"] == 5


def without_waits(answer: dict) -> dict:
    """Which time alone changes; whether they are there is kept."""
    limits = [without_waits(limit) for limit in answer.get("limits", [])]
    kept = {name: "a wait" if name.endswith("_after") else value for name, value in answer.items()}
    return kept | {"limits": limits}


def test_a_check_decides_as_a_call_does(daemon):
    attributes = {"plan": "free", "tenant": "check"}
    for path, cost in (("/login", 3), ("/api/x", 2), ("/elsewhere", 1), ("/login", 3)):
        fields = {"attributes": attributes, "cost": cost}
        called = daemon.allow("check", path, dry_run=True, details=True, **fields)
        checked = post(daemon, "check", user_id="check", path=path, **fields).json
        assert without_waits(checked) == without_waits(called)
        allowed = called["allowed"]
        assert post(daemon, "check", user_id="check", path=path, dry_run=False,
                    **fields).json["allowed"] == allowed
    assert daemon.allow("check", "/login", cost=0)["remaining"] == 2


def test_what_a_check_takes_is_counted_and_a_dry_run_is_not(daemon):
    def allowed():
        return get(daemon, "/api/v1/stats").json["requests"]["allowed"]

    before = allowed()
    post(daemon, "check", user_id="counted", path="/login")
    assert allowed() == before
    post(daemon, "check", user_id="counted", path="/login", dry_run=False)
    assert allowed() == before + 1


def test_stats_tell_what_is_decided(daemon):
    before = get(daemon, "/api/v1/stats").json
    attributes = {"plan": "free", "tenant": "stats"}
    for _ in range(7):
        daemon.allow("stats", "/login")
        daemon.allow("stats", "/api/x", attributes=attributes)
    after = get(daemon, "/api/v1/stats").json

    def grown(of):
        return {name: count - of(before)[name] for name, count in of(after).items()
                if isinstance(count, int)}

    assert grown(lambda stats: stats["requests"]) == {"allowed": 12, "denied": 2, "error": 0}
    limits = [grown(lambda stats: stats["limits"][number]) for number in range(2)]
    assert limits == [{"allowed": 5, "denied": 2, "shadow_denied": 0, "error": 0},
                      {"allowed": 5, "denied": 0, "shadow_denied": 2, "error": 0}]
    if daemon.store == "redis":
        trips = [sum(stats["redis"]["latency"]["counts"]) for stats in (before, after)]
        assert trips[1] > trips[0]
    else:
        assert after["memory"]["buckets"] > before["memory"]["buckets"] - 1
    assert after["uptime_seconds"] > before["uptime_seconds"]
    top = get(daemon, "/api/v1/top").json
    counts = {status: {user["user"]: user["count"] for user in top[status]}
              for status in ("allowed", "denied")}
    # They fade.
    assert counts["allowed"]["stats"] in (11, 12) and counts["denied"]["stats"] in (1, 2)


def test_settings_tell_where_they_come_from(redis, limits_file):
    settings = settings_of("redis", redis, LIMITS_FILE=limits_file, KEY_PREFIX="env")
    with harness.daemon("--key-prefix=flag", **settings) as daemon:
        shown = {setting["name"]: setting for setting in get(daemon, "/api/v1/settings").json["settings"]}
    assert (shown["KEY_PREFIX"]["value"], shown["KEY_PREFIX"]["source"]) == ("flag", "flag")
    assert shown["REDIS_TIMEOUT"]["source"] == "environment"
    assert shown["REDIS_TIMEOUT"]["default"] == "100ms"
    assert shown["DENY_CACHE_SIZE"]["source"] == "default"
    assert list(shown) == re.findall(r"\(Env:(\w+)\)", harness.run_to_end("--help").stdout)


def test_no_secret_is_told():
    secrets = {"hunter2", "s3cret@x", "s3cret%40x", "sentinels-own"}
    for settings in ({"REDIS_URL": "redis://hunter2name:s3cret%40x@127.0.0.1:1/2"},
                     {"REDIS_URL": "redis-sentinel://:hunter2@127.0.0.1:1/m",
                      "REDIS_SENTINEL_PASSWORD": "sentinels-own"},
                     {"REDIS_URL": "unix://u:hunter2@/nowhere/redis.sock"}):
        with harness.daemon(ADMIN_PORT=0, **settings) as daemon:
            for method, path in ROUTES:
                text = ask(daemon, method, path, GOOD if method == "POST" else None).text
                told = text.replace("hunter2name", "")
                assert not [secret for secret in secrets if secret in told], path
            assert "…" in get(daemon, "/api/v1/settings").text


def test_the_pages_policy_names_its_own_script_and_style(daemon):
    page = get(daemon, "/")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    for part in ("script", "style"):
        (inline,) = re.findall(f"<{part}>(.*?)</{part}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy[f"{part}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    # It names no other place, but for what SVG is called.
    assert set(re.findall(r"https?://[^'\" ]+", page.text)) == {"http://www.w3.org/2000/svg"}


def test_hostile_names_are_names(daemon):
    for user in ['"', "\\", "\n", "\0", "é𝄞", "{}", "%", "a\r\nX: y", "</script>"]:
        answer = post(daemon, "explain", user_id=user, path='/"\n')
        assert answer.status == 200
        assert post(daemon, "reset", user_id=user, path="/login").json["limits"][0]["remaining"] == 5


def test_reloads(redis, tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("limits: [{name: a, capacity: 5, refill: 1 per 1s}]")
    # The file is watched as well, so that it may be read more often than is asked here.
    with harness.daemon(**settings_of("memory", redis, LIMITS_FILE=path)) as daemon:
        before = get(daemon, "/api/v1/limits").json
        path.write_text("limits: [{name: b, capacity: 6, refill: 1 per 1s}]")
        answer = ask(daemon, "POST", "/api/v1/reload", {})
        assert answer.status == 200 and answer.json["reloads"]["errors"] == []
        assert [limit["name"] for limit in get(daemon, "/api/v1/limits").json["limits"]] == ["b"]
        path.write_text("limits: [{name: c}]")
        answer = ask(daemon, "POST", "/api/v1/reload", b"", JSON)
        assert (answer.status, answer.code) == (422, "INVALID_ARGUMENT")
        assert any(f"{path}:1:" in error for error in answer.json["reloads"]["errors"])
        after = get(daemon, "/api/v1/limits").json
        assert [limit["name"] for limit in after["limits"]] == ["b"]
        assert after["reloads"]["failed"] > before["reloads"]["failed"]
        assert daemon.usage("user")["limit_name"] == "b"


def test_many_limits_are_shown_whole(redis, tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text(json.dumps({"limits": [
        {"name": f"l{number}", "path": f"/{number}", "capacity": 5, "refill": "1 per 1s"}
        for number in range(10_000)]}))
    with harness.daemon(**settings_of("memory", redis, LIMITS_FILE=path)) as daemon:
        # Whoever reads slowly gets it as well.
        assert len(get(daemon, "/api/v1/limits").json["limits"]) == 10_000
        assert len(post(daemon, "explain", user_id="u", path="/7").json["limits"]) == 10_000


# --- Probes, start and end ---


def test_readiness_follows_the_store():
    port = harness.free_port()
    with harness.daemon(REDIS_URL=f"redis://127.0.0.1:{port}", ADMIN_PORT=0,
                        REDIS_TIMEOUT="500ms") as daemon:
        answer = get(daemon, "/readyz", Host="evil.com")
        assert (answer.status, answer.json["status"]) == (503, "not ready")
        assert "Redis at 127.0.0.1" in answer.json["reason"]
        assert get(daemon, "/healthz").json == {"status": "ok"}
        answer = post(daemon, "reset", user_id="u")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert post(daemon, "explain", user_id="u").status == 200
        with harness.redis_server(port=port):
            harness.wait_until(lambda: get(daemon, "/readyz").status == 200, what="readiness")
            assert get(daemon, "/readyz").json == {"status": "ready"}
            assert post(daemon, "reset", user_id="u").status == 200


def test_it_is_alive_but_not_ready_while_it_drains():
    with harness.daemon(STORE="memory", ADMIN_PORT=0, DRAIN_TIME="1h") as daemon:
        assert get(daemon, "/readyz").status == 200
        daemon.process.send_signal(signal.SIGTERM)
        harness.wait_until(lambda: get(daemon, "/readyz").status == 503, what="the drain")
        assert get(daemon, "/healthz").status == 200
        assert daemon.health() == "NOT_SERVING"
        assert post(daemon, "reset", user_id="u").status == 200


def test_silent_connections_do_not_hold_up_the_end_for_long():
    with harness.daemon(STORE="memory", ADMIN_PORT=0) as daemon, contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.admin_port)))
        assert daemon.terminate() == 0


@pytest.mark.parametrize("bind", ["127.0.0.1", "::", "0.0.0.0"])
def test_a_taken_port_is_an_error(bind):
    settings = {"STORE": "memory", "ADMIN_BIND": bind, "BIND": "127.0.0.1",
                "METRICS_BIND": "127.0.0.1", "PORT": 0, "METRICS_PORT": 0}
    with harness.daemon(ADMIN_PORT=0, **settings) as daemon:
        done = harness.run_to_end(ADMIN_PORT=daemon.admin_port, **settings)
        assert done.returncode == 1
        (error,) = [line for line in done.stderr.splitlines() if "Z error  " in line]
        assert f"{bind} port {daemon.admin_port}" in error
        assert "already in use" in error and "ADMIN_PORT" in error and "ADMIN_BIND" in error
        assert "gRPC on" not in done.stderr


def test_listens_where_it_is_told_to():
    # On a port on which nobody listens at the other address.
    with harness.daemon(STORE="memory", ADMIN_PORT=harness.free_port(), ADMIN_BIND="::1") as daemon:
        with socket.create_connection(("::1", daemon.admin_port), 10) as connection:
            connection.sendall(b"GET /api/v1/version HTTP/1.1\r\nHost: [::1]:%d\r\n\r\n" %
                               daemon.admin_port)
            assert status_of(connection.recv(65536)) == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", daemon.admin_port), 10)


def test_other_ports_do_not_serve_it(daemon):
    for port in (daemon.metrics_port, daemon.port):
        for path in ("/", "/healthz", "/api/v1/limits", "/api/v1/settings", "/api/v1/stats"):
            done = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10",
                                   f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True)
            assert done.stdout in ("404", "000")
    assert get(daemon, "/metrics").status == 404


# --- Other sites ---

OWN = ["localhost", "LOCALHOST", "localhost:{port}", "127.0.0.1", "127.0.0.1:1", "127.1.2.3:{port}",
       "[::1]", "[::1]:{port}"]
OTHERS = [
    "evil.com", "evil.com:{port}", "localhost.evil.com", "127.0.0.1.evil.com", "localhost.",
    "localhost.:{port}", "127.0.0.1.", "localhost@evil.com", "evil.com@localhost",
    "user:pass@localhost", "localhost:{port}@evil.com", "localhost:x", "localhost:", "localhost#x",
    "localhost/x", "localhost\\x", "localhost;evil.com", "127.1", "2130706433", "0x7f000001",
    "0177.0.0.1", "0.0.0.0", "128.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "[::1].evil.com",
    "[::1", "::1", "[0:0:0:0:0:0:0:1%lo]", "xn--localhost", "localhost\tevil.com", "localhost%2eevil.com",
    "localhost%00evil.com", "*", "", "null", "rebind.network"]
ROUTES = [("GET", "/"), ("GET", "/api/v1/limits"), ("GET", "/api/v1/version"),
          ("GET", "/api/v1/settings"), ("GET", "/api/v1/stats"), ("GET", "/api/v1/top"),
          ("POST", "/api/v1/check"), ("POST", "/api/v1/explain"), ("POST", "/api/v1/reset"),
          ("POST", "/api/v1/refund"), ("POST", "/api/v1/reload")]
API = [*ROUTES, ("OPTIONS", "/api/v1/reset"), ("GET", "/favicon.ico")]


def with_headers(method, path, *headers) -> bytes:
    body = b'{"user_id":"victim","path":"/login"}'
    lines = [f"{method} {path} HTTP/1.1", *headers, "Content-Type: application/json",
             f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def test_hosts_and_origins_of_this_machine_are_served(daemon):
    for template in OWN:
        host = template.format(port=daemon.admin_port)
        for headers in ([], [f"Origin: http://{host}"], [f"Origin: https://{host}"],
                        ["Sec-Fetch-Site: same-origin"], ["Sec-Fetch-Site: none"]):
            request = with_headers("POST", "/api/v1/explain", f"Host: {host}", *headers)
            assert status_of(raw(daemon, request)) == 200, (host, headers)


def test_a_name_that_resolves_to_this_machine_is_refused(daemon):
    daemon.allow("victim", "/login", cost=5)
    for template in OTHERS:
        host = template.format(port=daemon.admin_port)
        for method, path in API:
            answer = raw(daemon, with_headers(method, path, f"Host: {host}"))
            assert status_of(answer) == 403, (host, method, path)
            assert b"PERMISSION_DENIED" in answer
            assert b"access-control" not in answer.lower()
    assert daemon.allow("victim", "/login", cost=0)["remaining"] == 0
    post(daemon, "reset", user_id="victim", path="/login")


def test_a_link_on_another_site_leads_to_the_page_and_to_nothing_else(daemon):
    own = f"Host: localhost:{daemon.admin_port}"
    link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
    assert status_of(raw(daemon, with_headers("GET", "/", own, *link))) == 200
    for headers in (link[:1], link[:2], [*link[:2], "Sec-Fetch-Dest: iframe"],
                    [link[0], "Sec-Fetch-Mode: no-cors", link[2]]):
        assert status_of(raw(daemon, with_headers("GET", "/", own, *headers))) == 403, headers
    for method, path in API:
        if path != "/":
            assert status_of(raw(daemon, with_headers(method, path, own, *link))) == 403, path


def test_requests_of_other_sites_are_refused(daemon):
    daemon.allow("victim", "/login", cost=5)
    own = f"Host: localhost:{daemon.admin_port}"
    origins = [f"Origin: {scheme}{host.format(port=daemon.admin_port)}"
               for host in OTHERS for scheme in ("http://", "https://")]
    others = ["Origin: null", "Origin: file://", "Origin: localhost", "Origin: ftp://localhost",
              "Origin: http://localhost/", "Origin: http://localhost, http://evil.com",
              "Origin: http://localhost\r\nOrigin: http://evil.com", "Sec-Fetch-Site: cross-site",
              "Sec-Fetch-Site: Cross-Site", "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site"]
    for header in origins + others:
        for method, path in API:
            answer = raw(daemon, with_headers(method, path, own, header))
            assert status_of(answer) == 403, (header, method, path)
    for headers in ([], [own, own], [own, "Host: evil.com"], ["Host: evil.com", own],
                    ["X-Forwarded-Host: localhost"], ["Host : localhost"]):
        for method, path in API:
            assert status_of(raw(daemon, with_headers(method, path, *headers))) in (400, 403), headers
    assert daemon.allow("victim", "/login", cost=0)["remaining"] == 0
    post(daemon, "reset", user_id="victim", path="/login")


def test_what_a_form_of_another_site_can_send_is_refused(daemon):
    # Without an Origin, as an old browser would.
    body = b'{"user_id":"victim","path":"/login"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded",
                 "multipart/form-data; boundary=b", "text/plain; application/json", ""):
        for path in ("check", "explain", "reset", "refund", "reload"):
            answer = ask(daemon, "POST", f"/api/v1/{path}", body, {"Content-Type": kind})
            assert (answer.status, answer.code) == (415, "INVALID_ARGUMENT")
    # What a page may not send before it has asked.
    answer = ask(daemon, "OPTIONS", "/api/v1/reset", headers={
        "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"})
    assert answer.status == 405 and not any("access-control" in name.lower()
                                            for name in answer.headers)


def test_further_hosts():
    with harness.daemon(STORE="memory", ADMIN_PORT=0, ADMIN_HOSTS="admin.internal,10.1.2.3") as daemon:
        for host, status in {"Admin.Internal:80": 200, "10.1.2.3": 200, "localhost": 200,
                             "x.admin.internal": 403, "admin.internal.": 403, "10.1.2.4": 403}.items():
            assert get(daemon, "/api/v1/version", Host=host).status == status, host
            assert get(daemon, "/api/v1/version",
                       Origin=f"https://{host}").status == status, host


def test_a_body_is_never_taken_for_a_request(daemon):
    daemon.allow("victim", "/login", cost=5)
    own = f"Host: localhost:{daemon.admin_port}"
    hidden = with_headers("POST", "/api/v1/reset", own)
    for headers in ([own, "Origin: http://evil.com"], ["Host: evil.com"], [own]):
        for method in ("POST", "GET", "PUT", "OPTIONS"):
            outer = "\r\n".join([f"{method} /api/v1/limits HTTP/1.1", *headers,
                                 "Connection: keep-alive", f"Content-Length: {len(hidden)}", "", ""])
            assert raw(daemon, outer.encode() + hidden).count(b"HTTP/1.1 ") == 1
    assert daemon.allow("victim", "/login", cost=0)["remaining"] == 0
    post(daemon, "reset", user_id="victim", path="/login")


# --- What it withstands ---


@pytest.mark.parametrize("body, says", [
    (b"", "not JSON"), (b"{", "column 2"), (b"nonsense", "column 2"), (b"[]", "type array"),
    (b"null", "type null"), (b'{"user_id":"\xff"}', "UTF-8"), (b'{"user_id":"a"}x', "column 16"),
    (b"[" * 60_000, "not JSON"), (b'{"a":' * 12_000, "not JSON"),
    (b'{"user_id":"a","cost":1e400}', "number overflow"), (b'{"user_id":"a","x":1}', '"x"'),
    (b'{"user_id":"a","cost":9999999999999999999999}', "cost"),
    (b"\xef\xbb\xbf[]", "type array"), (b"\x00", "not JSON"),
], ids=range(14))
def test_bodies_that_are_not_accepted(body, says, daemon):
    answer = ask(daemon, "POST", "/api/v1/explain", body, JSON)
    assert (answer.status, answer.code) == (400, "INVALID_ARGUMENT")
    assert re.search(says, answer.json["error"]["message"])
    assert len(answer.text) < 1000


def test_other_methods_are_told_which_ones_are_accepted(daemon):
    for method, path in ROUTES:
        allowed = "POST" if method == "POST" else "GET, HEAD"
        for other in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - {method}:
            answer = ask(daemon, other, path)
            assert (answer.status, answer.headers["Allow"]) == (405, allowed)
            assert answer.code == "UNIMPLEMENTED"
    for path in ("/healthz", "/readyz", "/api/v1/limits"):
        answer = ask(daemon, "HEAD", path)
        assert (answer.status, answer.text) == (200, "")
        assert int(answer.headers["Content-Length"]) > 0


def test_huge_bodies_are_refused_and_not_kept(daemon):
    for length in (65537, 10 * 1024 * 1024):
        request = (b"POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                   b"application/json\r\nContent-Length: %d\r\n\r\n" % length)
        assert status_of(raw(daemon, request + b"x" * length)) == 413
    before = memory_of(daemon)
    endless = b"X: " + b"y" * (1024 * 1024)
    for start in (b"", b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"\xff"):
        raw(daemon, start + endless * 20)
    assert memory_of(daemon) - before < 40 * 1024 * 1024
    assert get(daemon, "/healthz").status == 200


def memory_of(daemon) -> int:
    status = open(f"/proc/{daemon.process.pid}/status", encoding="utf-8").read()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


GARBAGE = [
    b"\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET\r\n\r\n", b"GET /healthz\r\n\r\n", b"GET /healthz HTTP/9.9\r\n\r\n",
    b"GET  /healthz HTTP/1.1\r\n\r\n", b"FETCH /healthz HTTP/1.1\r\n\r\n",
    b"GET /%zz%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", b"GET /healthz HTTP/1.1\r\n: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    b"POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: -1\r\n\r\n{}",
    b"POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 99999999999999999999\r\n\r\n{}",
    b"GET /api/v1/limits HTTP/1.1\r\nHost: localhost\r\nRange: bytes=" + b"0-," * 2000 + b"0-\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_harms_nobody(request_bytes, daemon):
    with socket.create_connection(("127.0.0.1", daemon.admin_port), 20) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass
    assert get(daemon, "/healthz").status == 200
    assert daemon.allow("bystander", "/login", cost=0)["allowed"]


def test_slow_senders_hold_up_nobody(daemon):
    with contextlib.ExitStack() as stack:
        for number in range(6):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.admin_port)))
            slow.sendall([b"", b"GET /healthz HTT", b"POST /api/v1/reset HTTP/1.1\r\n"][number % 3])
        begun = time.monotonic()
        for _ in range(20):
            assert get(daemon, "/healthz").status == 200
        assert time.monotonic() - begun < 4


def test_a_sender_of_single_bytes_is_cut_off(daemon):
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", daemon.admin_port)) as connection:
        connection.settimeout(0.1)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 60:
                connection.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    if connection.recv(1) == b"":
                        break
    assert time.monotonic() - begun < 20


# --- The token ---

TOKEN = "0123456789abcdef0123456789ABCDEF"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\nnot this line\n")
    return path


@pytest.fixture
def guarded(token_file):
    with harness.daemon(STORE="memory", ADMIN_PORT=0, ADMIN_TOKEN_FILE=token_file) as daemon:
        yield daemon


def test_whoever_bears_the_token_is_served(guarded):
    for scheme in ("Bearer", "bearer"):
        assert get(guarded, "/api/v1/version", Authorization=f"{scheme} {TOKEN}").status == 200
    assert ask(guarded, "POST", "/api/v1/reset", {"user_id": "u"}, BEARER).status == 200
    assert ask(guarded, "GET", "/nothing", headers=BEARER).status == 404
    assert ask(guarded, "GET", "/api/v1/version", headers=BEARER | {"Host": "evil.com"}).status == 403


@pytest.mark.parametrize("headers", [
    {}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "},
    {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN.lower()}"}, {"Authorization": f"Bearer  {TOKEN}"},
    {"Authorization": "Bearer not this line"}, {"Cookie": f"token={TOKEN}"}], ids=str)
def test_nobody_else_is(headers, guarded):
    for method, path in [*ROUTES, ("GET", "/nothing"), ("OPTIONS", "/api/v1/reset")]:
        if path in ("/", "/healthz", "/readyz"):
            continue
        answer = ask(guarded, method, path, GOOD if method == "POST" else None, headers)
        assert (answer.status, answer.code) == (401, "UNAUTHENTICATED"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer" and TOKEN not in answer.text


def test_two_tokens_are_none(guarded):
    two = with_headers("GET", "/api/v1/version", "Host: localhost",
                       f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}")
    assert status_of(raw(guarded, two)) == 401


def test_probes_and_the_page_need_no_token(guarded):
    for path in ("/healthz", "/readyz", "/"):
        assert get(guarded, path).status == 200
    assert get(guarded, "/readyz", Host="probe.example").status == 200
    assert TOKEN not in get(guarded, "/").text


def test_the_token_may_change(guarded, token_file):
    token_file.write_text("another\n")
    assert ask(guarded, "GET", "/api/v1/version", headers=BEARER).status == 401
    assert get(guarded, "/api/v1/version", Authorization="Bearer another").status == 200
    for spoil in (token_file.unlink, lambda: token_file.write_text("\n")):
        spoil()
        for headers in (BEARER, {"Authorization": "Bearer "}, {}):
            answer = ask(guarded, "GET", "/api/v1/version", headers=headers)
            assert (answer.status, answer.code) == (503, "UNAVAILABLE")
            assert "ADMIN_TOKEN_FILE" in answer.text and str(token_file) not in answer.text
    assert get(guarded, "/readyz").status == 200


@pytest.mark.parametrize("content", [None, "", "\nsecond"])
def test_a_start_without_a_token_in_the_file_fails(content, tmp_path):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    done = harness.run_to_end(STORE="memory", ADMIN_TOKEN_FILE=path)
    assert (done.returncode, done.stdout) == (78, "")
    assert re.fullmatch(rf"ADMIN_TOKEN_FILE: cannot read {path}: .+; accepted: a regular file whose "
                        "first line is the token\n", done.stderr)


# --- docs/use/admin-api.yaml ---

SPECIFICATION = yaml.safe_load((harness.ROOT / "docs" / "use" / "admin-api.yaml").read_text(encoding="utf-8"))


def resolved(part):
    while "$ref" in part:
        keys = part["$ref"].removeprefix("#/").split("/")
        part = SPECIFICATION
        for key in keys:
            part = part[key]
    return part


def documented() -> set:
    return {(method.upper(), path, int(status))
            for path, methods in SPECIFICATION["paths"].items()
            for method, operation in methods.items() for status in operation["responses"]}


def validator(schema):
    return jsonschema.Draft202012Validator(
        schema, resolver=jsonschema.RefResolver("", SPECIFICATION))


def check_answer(method, path, answer):
    """That an answer is as it is documented."""
    response = resolved(SPECIFICATION["paths"][path][method.lower()]["responses"][str(answer.status)])
    ((kind, content),) = response["content"].items()
    assert answer.headers["Content-Type"] == kind
    validator(content["schema"]).validate(
        answer.json if kind == "application/json" else answer.text)


def test_the_specification_is_one():
    assert SPECIFICATION["openapi"].startswith("3.1.")
    for schema in SPECIFICATION["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    # An object of which not every member is documented would let others pass.
    text = (harness.ROOT / "docs" / "use" / "admin-api.yaml").read_text(encoding="utf-8")
    assert len(re.findall(r"\btype: (?:object\b|\[object)", text)) == len(
        re.findall(r"\badditionalProperties: ", text))


def test_every_route_is_documented():
    source = (harness.ROOT / "src" / "admin" / "admin_server.cpp").read_text(encoding="utf-8")
    table = source.split("kRoutes[] = {")[1].split("};")[0]
    routes = set(re.findall(r'\{"([A-Z]+)", "([^"]+)"', table))
    assert len(routes) == table.count("{") == 13
    assert {(method, path) for method, path, _ in documented()} == routes


def chunked(daemon, path) -> Answer:
    answer = raw(daemon, f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".encode())
    head, text = answer.decode().split("\r\n\r\n")
    headers = http.client.parse_headers(io.BytesIO(head.split("\r\n", 1)[1].encode() + b"\r\n\r\n"))
    return Answer(status_of(answer), headers, text)


GOOD = {"user_id": "u", "path": "/login"}


def answers(redis, limits_file, tmp_path):
    """Every documented answer, as (method, path, answer)."""

    def every(daemon, body):
        for path, methods in SPECIFICATION["paths"].items():
            for method in map(str.upper, methods):
                posts = method == "POST"
                sent = {} if path.endswith("reload") else body
                yield method, path, ask(daemon, method, path, sent if posts else None)
                if path not in ("/healthz", "/readyz"):
                    yield method, path, ask(daemon, method, path, sent if posts else None,
                                            {"Host": "evil.com"})
                if posts:
                    yield method, path, ask(daemon, method, path, {"nonsense": 1})
                    yield method, path, ask(daemon, method, path, b" " * 65537)
                    yield method, path, ask(daemon, method, path, sent, {"Content-Type": "text/plain"})
                    yield method, path, chunked(daemon, path)

    changes = ["/api/v1/reset", "/api/v1/refund"]
    asking = ["/api/v1/check", *changes]
    with harness.daemon(**settings_of("redis", redis, LIMITS_FILE=limits_file)) as daemon:
        yield from every(daemon, GOOD)
        for user in ("root", "eve", "bot"):
            for path in ["/api/v1/explain", *asking]:
                yield "POST", path, ask(daemon, "POST", path, GOOD | {"user_id": user})
        attributes = {"attributes": {"plan": "free", "tenant": "t"}, "path": "/api/x"}
        for path in ["/api/v1/explain", *asking]:
            yield "POST", path, ask(daemon, "POST", path, GOOD | attributes)
        for _ in range(6):
            yield "POST", asking[0], ask(daemon, "POST", asking[0], GOOD | {"dry_run": False})
        for path in ("/api/v1/stats", "/api/v1/top"):
            yield "GET", path, get(daemon, path)
        key = post(daemon, "explain", **GOOD | {"user_id": "spoilt"}).json["limits"][0]["key"]
        redis.cli("SET", key, "a string")
        for path in changes:
            yield "POST", path, ask(daemon, "POST", path, GOOD | {"limit": "none"})
        for path in asking:
            yield "POST", path, ask(daemon, "POST", path, GOOD | {"user_id": "spoilt"})
    with harness.daemon(STORE="memory", ADMIN_PORT=0, DRAIN_TIME="1h") as daemon:
        yield from every(daemon, GOOD)
        daemon.process.send_signal(signal.SIGTERM)
        harness.wait_until(lambda: get(daemon, "/readyz").status == 503, what="the drain")
        yield "GET", "/readyz", get(daemon, "/readyz")
    path = tmp_path / "limits.yaml"
    path.write_text(LIMITS)
    with harness.daemon(STORE="memory", ADMIN_PORT=0, LIMITS_FILE=path) as daemon:
        path.write_text("limits: 7")
        yield "POST", "/api/v1/reload", ask(daemon, "POST", "/api/v1/reload", {})
        yield "GET", "/api/v1/limits", get(daemon, "/api/v1/limits")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with harness.daemon(STORE="memory", ADMIN_PORT=0, ADMIN_TOKEN_FILE=token) as daemon:
        for _ in range(2):
            for path, methods in SPECIFICATION["paths"].items():
                for method in map(str.upper, methods):
                    yield method, path, ask(daemon, method, path, {} if method == "POST" else None)
            token.unlink(missing_ok=True)
    away = f"redis://127.0.0.1:{harness.free_port()}"
    with harness.daemon(REDIS_URL=away, ADMIN_PORT=0) as daemon:
        for path in asking:
            yield "POST", path, ask(daemon, "POST", path, {"user_id": "u"})
        yield "GET", "/api/v1/stats", get(daemon, "/api/v1/stats")
    for mode in ("open", "closed", "local"):
        with harness.daemon(REDIS_URL=away, ADMIN_PORT=0, FAIL_MODE=mode) as daemon:
            yield "POST", asking[0], ask(daemon, "POST", asking[0], {"user_id": "u"})
            yield "GET", "/api/v1/stats", get(daemon, "/api/v1/stats")
    yield from late_answers(redis, asking)


def late_answers(redis, paths):
    """While the only connection to Redis is in use for longer than the admin API waits."""
    with harness.daemon(**settings_of("redis", redis, REDIS_POOL_SIZE=1)) as daemon:
        redis.cli("CLIENT", "PAUSE", "60000", "WRITE")
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                call = pool.submit(daemon.allow, "u")
                harness.wait_until(lambda: re.search(r"name=ratelimiterd .* flags=b ",
                                                     redis.cli("CLIENT", "LIST")),
                                   what="a call that Redis holds")
                for path in paths:
                    yield "POST", path, ask(daemon, "POST", path, {"user_id": "u"})
                redis.cli("CLIENT", "UNPAUSE")
                with contextlib.suppress(grpc.RpcError):
                    call.result()
        finally:
            redis.cli("CLIENT", "UNPAUSE")


def test_every_documented_answer_comes_and_is_as_documented(redis, limits_file, tmp_path):
    seen = set()
    for method, path, answer in answers(redis, limits_file, tmp_path):
        assert (method, path, answer.status) in documented(), answer.text
        check_answer(method, path, answer)
        seen.add((method, path, answer.status))
    assert seen == documented()


def test_other_errors_have_the_same_form(daemon):
    error = validator(SPECIFICATION["components"]["schemas"]["Error"])
    for answer in (get(daemon, "/nothing"), ask(daemon, "PUT", "/api/v1/limits"),
                   get(daemon, "/" + "a" * 9000), get(daemon, "/healthz", Range="x")):
        assert 400 <= answer.status < 500
        error.validate(answer.json)


@pytest.mark.parametrize("name, body", [
    ("check", GOOD | {"attributes": {"a": "b"}, "cost": 0, "dry_run": False}), ("check", GOOD),
    ("explain", GOOD | {"attributes": {"a": "b"}, "cost": 4294967295}), ("reset", GOOD),
    ("refund", GOOD | {"limit": "login", "cost": 0}), ("reload", {})])
def test_documented_requests_are_accepted_and_others_are_not(name, body, daemon):
    content = SPECIFICATION["paths"][f"/api/v1/{name}"]["post"]["requestBody"]["content"]
    schema = validator(content["application/json"]["schema"])
    schema.validate(body)
    assert ask(daemon, "POST", f"/api/v1/{name}", body).status == 200
    for field, value in {"surprise": 1, "user_id": "", "cost": -1, "attributes": {"a": 1},
                         "path": None, "limit": 7, "dry_run": 0}.items():
        bad = body | {field: value}
        assert not schema.is_valid(bad)
        assert ask(daemon, "POST", f"/api/v1/{name}", bad).status == 400, bad


# --- docs/use/admin-api.md ---


def examples():
    """The commands of the page with what it says they print."""
    page = (harness.ROOT / "docs" / "use" / "admin-api.md").read_text(encoding="utf-8")
    found = re.findall(r"^    \$ (curl .+(?:\n      .+)*)\n((?:    [^$\s].*\n)*)", page, re.MULTILINE)
    return [(command, re.sub("^    ", "", printed, flags=re.MULTILINE)) for command, printed in found]


def test_the_examples_print_what_the_page_says(tmp_path):
    page = (harness.ROOT / "docs" / "use" / "admin-api.md").read_text(encoding="utf-8")
    (limits,) = re.findall(r"```yaml\n(.+?)```", page, re.DOTALL)
    path = tmp_path / "limits.yaml"
    path.write_text(limits)
    with harness.redis_server() as redis, \
            harness.daemon(REDIS_URL=redis.url, ADMIN_PORT=0, LIMITS_FILE=path) as daemon:
        daemon.allow("ann", "/login", cost=5)
        assert len(examples()) >= 6
        for command, printed in examples():
            command = command.replace("localhost:8081", f"127.0.0.1:{daemon.admin_port}")
            actual = harness.output_of("sh", "-c", command, timeout=20)
            actual = actual.replace(str(path), "/etc/ratelimiter/limits.yaml")
            actual = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-11-24T17:31:02Z", actual)
            assert actual.rstrip("\n") == printed.rstrip("\n"), command
