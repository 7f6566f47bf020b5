"""rlctl, as people and their scripts use it: what it prints and exits with."""

import contextlib
import http.server
import json
import os
import pty
import random
import re
import select
import subprocess
import threading
import time

import pytest

import harness


def patient(words) -> list:
    """A command that gives the daemon more time, for the machine may be busy."""
    asks = words[0] in ("check", "explain", "healthcheck", "refund", "reload", "reset", "usage")
    given = any(str(word).startswith("--timeout") for word in words)
    return [words[0], "--timeout", "10s", *words[1:]] if asks and not given else words


def healthcheck(*flags, **environment) -> subprocess.CompletedProcess:
    return rlctl("healthcheck", *flags, **environment)


@pytest.fixture(scope="module")
def serving():
    with harness.daemon(STORE="memory") as daemon:
        yield daemon


def ways(port) -> list:
    """(flags, environment) by which the daemon on that port is asked."""
    return [([], {"PORT": port}), (["--port", str(port)], {"PORT": 1}),
            (["--target", f"127.0.0.1:{port}"], {"PORT": 1})]


@pytest.mark.parametrize("way", range(3), ids=["PORT", "--port", "--target"])
def test_a_daemon_that_serves(way, serving):
    flags, environment = ways(serving.port)[way]
    done = healthcheck(*flags, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f":{serving.port} is SERVING" in done.stdout


@pytest.mark.parametrize("way", range(3), ids=["PORT", "--port", "--target"])
def test_a_daemon_that_is_not_ready(way):
    redis = f"redis://127.0.0.1:{harness.free_port()}"
    with harness.daemon(REDIS_URL=redis) as daemon:
        flags, environment = ways(daemon.port)[way]
        done = healthcheck(*flags, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert f":{daemon.port} is NOT_SERVING" in done.stderr


@pytest.mark.parametrize("way", range(3), ids=["PORT", "--port", "--target"])
def test_no_daemon(way):
    port = harness.free_port()
    flags, environment = ways(port)[way]
    done = healthcheck(*flags, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert f":{port} does not answer" in done.stderr and "--target" in done.stderr


def test_a_server_that_never_answers_is_given_up():
    def silent(connection):
        while connection.recv(65536):
            pass

    with harness.fake_server(silent) as port:
        done = healthcheck("--timeout", "1s", PORT=port)
        assert (done.returncode, done.stdout) == (1, "")
        assert f":{port} does not answer" in done.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_no_proxy_is_asked(variable, serving):
    proxy = f"http://127.0.0.1:{harness.free_port()}"
    for flags, environment in ways(serving.port):
        done = healthcheck(*flags, **environment, **{variable: proxy})
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [
    [], ["no-such-command"], ["healthcheck", "--no-such"], ["healthcheck", "--port", "65536"],
    ["healthcheck", "--port", "http"], ["healthcheck", "--target"],
], ids=" ".join)
def test_a_usage_error(words):
    done = subprocess.run([harness.RLCTL, *words], timeout=20, capture_output=True, text=True,
                          env=harness.clean_environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert "--help" in done.stderr


# --- The other commands ---


def rlctl(*words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run([harness.RLCTL, *patient(words)], timeout=20, capture_output=True, text=True,
                          env=harness.clean_environment(**environment))


def printed(*words, code=0, **environment) -> str:
    """All that a command prints, without the first line break."""
    done = rlctl(*words, **environment)
    assert (done.returncode, done.stderr) == (code, "")
    return "\n" + done.stdout


def refused(*words, code=1, **environment) -> str:
    """What is said of a command that fails, which is one line."""
    done = rlctl(*words, **environment)
    assert (done.returncode, done.stdout) == (code, "")
    (error,) = done.stderr.splitlines()
    return error


# So slow that times are the same, as they are shown, however long a test takes.
LIMITS = """
limits:
  - name: logins
    path: /login
    capacity: 3
    refill: 1 per 2d
  - name: tenants
    by: [user, attributes.tenant]
    capacity: 4
    refill: 1 per 1d
    cost: 2
    overrides:
      - attributes: {tenant: ours}
        unlimited: true
  - name: trial
    path: /login
    capacity: 1
    refill: 1 per 30d
    shadow: true
  - name: closed
    path: /closed
    capacity: 0
"""


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """The environment of a caller whose daemon has several limits."""
    file = tmp_path_factory.mktemp("limits") / "limits.yaml"
    file.write_text(LIMITS)
    with harness.daemon(STORE="memory", LIMITS_FILE=file) as daemon:
        yield {"PORT": daemon.port}


def test_check_shows_what_each_limit_says(limited):
    assert printed("check", "alice", "/login", **limited) == """
Request allowed

LIMIT   SAYS              LEFT  CAPACITY  RETRY IN  FULL IN
logins  allowed           2     3         -         2d
trial   allowed (shadow)  0     1         -         30d
"""
    assert printed("check", "alice", "/login", "--attribute", "tenant=a", "--cost", "2",
                   **limited) == """
Request allowed

LIMIT    SAYS              LEFT  CAPACITY  RETRY IN  FULL IN
logins   allowed           0     3         -         6d
tenants  allowed           0     4         -         4d
trial    refused (shadow)  0     1         never     30d
"""
    assert printed("check", "alice", "/login", code=3, **limited) == """
Request refused. Limit "logins" exceeded: cost 1, 0 of 3 tokens left; retry in 2d

LIMIT   SAYS              LEFT  CAPACITY  RETRY IN  FULL IN
logins  refused           0     3         2d        6d
trial   refused (shadow)  0     1         30d       30d
"""


def test_check_of_a_limit_that_refuses_always(limited):
    assert printed("check", "alice", "/closed", code=3, **limited) == """
Request refused. Limit "closed" always refuses: its capacity is 0

LIMIT   SAYS     LEFT  CAPACITY  RETRY IN  FULL IN
closed  refused  0     0         never     0s
"""


def test_check_where_no_limit_applies(limited):
    assert printed("check", "alice", **limited) == """
Request allowed
No limit applies to it.
"""


def test_a_dry_run_and_a_look_take_nothing(limited):
    for words in (["--dry-run"], ["--cost", "0"]):
        assert "Request allowed" in printed("check", "dry", "/login", *words, **limited)
    assert json.loads(printed("usage", "dry", "/login", "--json", **limited))["requests_used"] == 0


def test_check_in_json(limited):
    words = ["check", "json", "/login", "--json"]
    assert json.loads(printed(*words, "--cost", "3", **limited)) == {
        "allowed": True, "reason": "Request allowed", "remaining": 0, "limit": 3,
        "reset_after": "518400s", "limit_name": "logins", "limits": [
            {"name": "logins", "shadow": False, "allowed": True, "remaining": 0, "limit": 3,
             "reset_after": "518400s"},
            {"name": "trial", "shadow": True, "allowed": False, "remaining": 1, "limit": 1,
             "reset_after": "0s"}]}
    answer = json.loads(printed(*words, code=3, **limited))
    assert answer["allowed"] is False and answer["limit_name"] == "logins"
    assert float(answer["retry_after"].removesuffix("s")) > 172_700


def test_usage(limited):
    printed("check", "carol", "/login", "--attribute", "tenant=a", **limited)
    words = ["usage", "carol", "/login", "--attribute", "tenant=a"]
    assert printed(*words, **limited) == """
2 of 4 tokens used of limit "tenants"

LIMIT           USED  LEFT  CAPACITY  FULL IN
logins          1     2     3         2d
tenants         2     2     4         2d
trial (shadow)  1     0     1         30d
"""
    assert printed(*words, "--limit", "logins", **limited).startswith(
        '\n1 of 3 tokens used of limit "logins"\n')
    usage = json.loads(printed(*words, "--json", **limited))
    assert list(usage.items())[:3] == [
        ("requests_used", 2), ("requests_allowed", 4), ("limit_name", "tenants")]
    assert [limit["name"] for limit in usage["limits"]] == ["logins", "tenants", "trial"]


def test_usage_where_no_limit_applies(limited):
    assert printed("usage", "carol", "/else", **limited) == "\nNo limit that refuses applies.\n"
    assert json.loads(printed("usage", "carol", "/else", "--json", **limited)) == {}


def test_attributes_are_given_one_by_one(limited):
    for words in (["--attribute", "tenant=ours", "dora", "/login"],
                  ["dora", "--attribute=tenant=ours", "/login", "--attribute", "plan=a=b"]):
        usage = json.loads(printed("usage", *words, "--json", **limited))
        assert [limit["name"] for limit in usage["limits"]] == ["logins", "trial"]


@pytest.mark.parametrize("words", [["usage"], ["check"], ["limits"], ["--", "--json"],
                                   ["--", "-h"], ["ünïcödé"], [" "]], ids=" ".join)
def test_a_user_may_have_any_name(words, limited):
    printed("check", *words, **limited)


def test_health_in_json(limited):
    assert json.loads(printed("healthcheck", "--json", **limited)) == {"status": "SERVING"}
    with harness.daemon(REDIS_URL=f"redis://127.0.0.1:{harness.free_port()}") as daemon:
        done = rlctl("healthcheck", "--json", PORT=daemon.port)
        assert done.returncode == 1 and "NOT_SERVING" in done.stderr
        assert json.loads(done.stdout) == {"status": "NOT_SERVING"}


# --- Errors ---


def test_what_the_daemon_does_not_accept_is_told(limited):
    address = f"localhost:{limited['PORT']}"
    assert refused("check", "alice", "/login", "--cost", "4", **limited) == (
        f"rlctl: {address} answers INVALID_ARGUMENT: cost is 4, above the capacity of limit "
        '"logins", so it could never pass; accepted: 0 to 3')
    assert refused("usage", "alice", "--limit", "none", **limited).startswith(
        f'rlctl: {address} answers NOT_FOUND: no limit "none" applies')


def test_a_daemon_whose_store_is_away_is_told_from_none_at_all():
    with harness.daemon(REDIS_URL=f"redis://127.0.0.1:{harness.free_port()}") as daemon:
        error = refused("check", "alice", PORT=daemon.port)
        assert error.startswith(f"rlctl: localhost:{daemon.port} answers UNAVAILABLE: ")
    error = refused("check", "alice", PORT=daemon.port)
    assert error.startswith(f"rlctl: localhost:{daemon.port} does not answer: ")
    assert error.endswith("; is ratelimiterd running there (--target, PORT), and is it without TLS "
                          "(--tls)?")


def silent(connection):
    while connection.recv(65536):
        pass


def dripping(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize("server", [silent, dripping])
def test_an_answer_is_waited_for_as_long_as_told(server):
    with harness.fake_server(server) as port:
        for command in (["check", "alice", "--target"], ["explain", "alice", "--admin-target"]):
            begun = time.monotonic()
            error = refused(*command, f"127.0.0.1:{port}", "--timeout", "300ms")
            assert f"127.0.0.1:{port} does not answer" in error
            assert time.monotonic() - begun < 5


ACCEPTED = {
    "--cost": ("0 to 4294967295", ["-1", "x", "0x1", "4294967296"]),
    "--port": ("0 to 65535", ["-1", "http", "65536"]),
    "--timeout": ("1ms to 1h", ["0", "2", "1us", "2h"]),
    "--attribute": ("KEY=VALUE", ["plan", "=free"]),
    "--admin-port": ("0 to 65535", ["-1", "http", "65536"]),
    "--admin-target": ("host:port", ["localhost", "localhost:http", ":1", "localhost:65536"]),
}


@pytest.mark.parametrize("flag", ACCEPTED)
def test_a_value_that_is_not_accepted(flag):
    accepted, values = ACCEPTED[flag]
    command = "explain" if "admin" in flag else "check"
    for value in values:
        error = refused(command, "alice", f"{flag}={value}", code=2)
        assert error.startswith(f"rlctl: {flag}") and f"accepted: {accepted}" in error
        assert f'"{value}" is not accepted' in error
        assert error.endswith(f"; see rlctl {command} --help")


def test_a_bad_variable_is_named():
    assert "PORT" in refused("check", "alice", code=2, PORT="http")
    assert "ADMIN_PORT" in refused("explain", "alice", code=2, ADMIN_PORT="http")


def test_an_attribute_given_twice_and_what_is_not_text_are_told():
    error = refused("check", "alice", "--attribute", "a=1", "--attribute", "a=2", code=2)
    assert "accepted: each key once" in error
    done = subprocess.run([harness.RLCTL, "check", b"\xff"], capture_output=True, timeout=20)
    assert done.returncode == 2 and b"USER: it is not valid UTF-8" in done.stderr


@pytest.mark.parametrize("environment", [{}, {"ADMIN_PORT": "off"}, {"ADMIN_PORT": ""}], ids=str)
def test_without_an_admin_port_it_is_told_what_to_set(environment):
    for words in (["limits", "list"], ["reload"], ["explain", "alice"]):
        error = refused(*words, **environment)
        assert "ratelimiterd with ADMIN_PORT" in error and "--admin-port" in error


def test_output_that_cannot_be_written_is_an_error(limited):
    with open("/dev/full", "w") as full:
        done = subprocess.run([harness.RLCTL, "check", "alice"], stdout=full, text=True, timeout=20,
                              stderr=subprocess.PIPE, env=harness.clean_environment(**limited))
    assert (done.returncode, done.stderr) == (1, "rlctl: stdout cannot be written to\n")


# --- What a terminal shows ---


def on_a_terminal(*words, **environment) -> str:
    """What a command writes to its terminal."""
    master, terminal = pty.openpty()
    try:
        with subprocess.Popen([harness.RLCTL, *words], stdin=terminal, stdout=terminal,
                              stderr=subprocess.DEVNULL,
                              env=harness.clean_environment(**environment)) as process:
            process.wait(timeout=20)
        os.close(terminal)
        written = b""
        with contextlib.suppress(OSError):  # The end, as Linux tells it.
            while chunk := os.read(master, 65536):
                written += chunk
        return written.decode().replace("\r\n", "\n")
    finally:
        os.close(master)


GREEN, RED, DIM, END = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def test_a_terminal_shows_colours(limited):
    lines = on_a_terminal("check", "colour", "/login", **limited).splitlines()
    assert lines[0] == f"{GREEN}Request allowed{END}"
    assert lines[3].startswith(f"{GREEN}logins ") and lines[4].startswith(f"{DIM}trial ")
    lines = on_a_terminal("check", "colour", "/closed", **limited).splitlines()
    assert lines[0].startswith(f"{RED}Request refused. ")
    assert lines[3].startswith(f"{RED}closed ") and lines[3].endswith(END)


def test_no_color_means_no_colours(limited):
    shown = on_a_terminal("check", "colourless", "/closed", NO_COLOR="1", **limited)
    assert "Request refused" in shown and "\x1b" not in shown
    assert "\x1b" in on_a_terminal("check", "colourless", "/closed", NO_COLOR="", **limited)


def test_json_has_no_colours(limited):
    assert json.loads(on_a_terminal("check", "colourless", "/closed", "--json", **limited))


# Steers a terminal, ends a line, and C1's way to steer one.
FORGED = "\x1b[2J\nrlctl: forged\x7f\x9b2J"


@contextlib.contextmanager
def fake_admin(status: int, body: bytes):
    """An admin server that answers everything alike; gives its address and what it
    was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            asked.append((self.command, self.path, self.headers, self.rfile.read(length)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def test_nothing_forges_what_is_shown(limited):
    limit = {"name": FORGED, "why": FORGED, "applies": True, "key": FORGED, "path": FORGED,
             "attributes": {FORGED: FORGED}, "by": [FORGED], "remaining": FORGED}
    body = {"limits": [limit], "file": FORGED, "loaded_at": FORGED,
            "reloads": {"succeeded": FORGED, "failed": 0, "errors": [FORGED]},
            "error": {"code": FORGED, "message": FORGED}}
    commands = [["limits", "list"], ["reload"], ["explain", "u"], ["reset", "u"], ["refund", "u"]]
    for status in (200, 422):
        with fake_admin(status, json.dumps(body).encode()) as (address, _):
            for command in commands:
                for format in ([], ["--json"]):
                    done = rlctl(*command, "--admin-target", address, *format)
                    shown = done.stdout + done.stderr
                    assert "rlctl: forged" in shown and "\nrlctl: forged" not in shown
                    assert not any(character in shown for character in "\x1b\x7f\x9b")
    for words in (["usage", "u", "--limit", FORGED], ["check", "u", FORGED, FORGED],
                  ["check", "u", "--cost", FORGED], ["limits", "validate", FORGED]):
        done = rlctl(*words, **limited)
        assert "rlctl: forged" in done.stderr and "\nrlctl: forged" not in done.stderr
        assert not any(character in done.stderr for character in "\x1b\x7f\x9b")


# --- The admin server's commands ---


def test_what_the_admin_server_is_asked():
    words = ["ann", "/login", "--attribute", "plan=free"]
    request = {"user_id": "ann", "path": "/login", "attributes": {"plan": "free"}}
    for command, method, path, body in [
            (["limits", "list"], "GET", "limits", None),
            (["reload"], "POST", "reload", {}),
            (["explain", *words, "--cost", "2"], "POST", "explain", request | {"cost": 2}),
            (["reset", "ann"], "POST", "reset", {"user_id": "ann"}),
            (["reset", *words, "--limit", "l"], "POST", "reset", request | {"limit": "l"}),
            (["refund", *words, "--cost", "2", "--limit", "l"], "POST", "refund",
             request | {"limit": "l", "cost": 2})]:
        with fake_admin(200, b"{}") as (address, asked):
            rlctl(*command, "--admin-target", address, http_proxy="http://127.0.0.1:9")
        [(asked_method, asked_path, headers, asked_body)] = asked
        assert (asked_method, asked_path) == (method, f"/api/v1/{path}")
        assert headers["Host"] == address
        if body is not None:
            assert headers["Content-Type"] == "application/json" and json.loads(asked_body) == body


@pytest.mark.parametrize("status, body", [
    (200, b"<html>"), (200, b"[]"), (200, b""), (404, b"not found"), (500, b"{}"),
    (301, b"{}"), (200, b"\xff"), (400, b'{"error": "bad"}')], ids=str)
def test_a_server_that_is_no_admin_server(status, body):
    with fake_admin(status, body) as (address, _):
        error = refused("limits", "list", "--admin-target", address)
        assert error.startswith(f"rlctl: {address} answers {status}")
        assert error.endswith("ratelimiterd (--admin-target, ADMIN_PORT)?")


def test_no_admin_server():
    port = harness.free_port()
    assert refused("limits", "list", ADMIN_PORT=port) == (
        f"rlctl: localhost:{port} does not answer: no connection; is the admin server of "
        "ratelimiterd there (--admin-target, ADMIN_PORT), and is it without TLS (--tls)?")


@contextlib.contextmanager
def administered(limits: str, directory, **settings):
    """The environment of a caller whose daemon has these limits and an admin server."""
    file = directory / "limits.yaml"
    file.write_text(limits)
    settings = {"STORE": "memory"} | settings
    with harness.daemon(LIMITS_FILE=file, ADMIN_PORT=0, **settings) as daemon:
        yield {"PORT": daemon.port, "ADMIN_PORT": daemon.admin_port}


MANY = """
hash_by: global
limits:
  - {name: user, capacity: 9, refill: 1 per 1d, overrides: [{user: ann, unlimited: true}]}
  - {name: api, path: /api/*, by: [path], capacity: 9, refill: 1 per 1d}
  - name: login
    path: /login
    by: [user, path]
    capacity: 9
    refill: 1 per 1d
    overrides: [{user: ben, capacity: 0}, {path: /login, user: ann, unlimited: true}]
  - {name: free, attributes: {plan: free}, by: [], capacity: 9, refill: 1 per 1d, cost: 3}
  - name: tenant
    by: [attributes.tenant]
    capacity: 9
    refill: 1 per 1d
    overrides: [{attributes: {tenant: ours}, unlimited: true}]
  - name: trial
    path: /api/v1/*
    attributes: {plan: trial}
    by: [user, attributes.tenant]
    capacity: 9
    refill: 1 per 1d
    shadow: true
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    with administered(MANY, tmp_path_factory.mktemp("many")) as environment:
        yield environment


def test_explain_agrees_with_what_is_decided(many):
    chance = random.Random(1)
    seen = set()
    for _ in range(100):
        words = [chance.choice(["ann", "ben", "cem"]),
                 chance.choice(["", "/login", "/login/", "/api/v1/x", "/api/", "/api"])]
        for key, values in {"plan": ["free", "trial", "Free"], "tenant": ["ours", "a"]}.items():
            if chance.random() < 0.6:
                words += ["--attribute", f"{key}={chance.choice(values)}"]
        explained = json.loads(printed("explain", *words, "--json", **many))["limits"]
        done = rlctl("check", *words, "--dry-run", "--json", **many)
        decided = json.loads(done.stdout)
        names = [limit["name"] for limit in decided.get("limits", [])]
        applying = [limit for limit in explained if limit["applies"] and not limit["unlimited"]]
        assert [(limit["name"], limit["limit"]) for limit in decided.get("limits", [])] == [
            (limit["name"], limit["capacity"]) for limit in applying], words
        assert done.returncode == (0 if decided["allowed"] else 3)
        # Nothing is taken, so that only those refuse that always do.
        assert decided["allowed"] == all(limit["capacity"] > 0 for limit in applying)
        seen.add(tuple(names))
    assert len(seen) > 10


def test_the_limit_of_the_settings():
    with harness.daemon(STORE="memory", ADMIN_PORT=0, REFILL_INTERVAL="30d") as daemon:
        environment = {"ADMIN_PORT": daemon.admin_port}
        assert printed("limits", "list", **environment) == """
The limit of the settings

LIMIT    PATH  ATTRIBUTES  BY    CAPACITY  REFILL     COST  OVERRIDES
default  *     -           user  5         1 per 30d  1     -
"""
        error = refused("reload", **environment)
        assert error.startswith(f"rlctl: localhost:{daemon.admin_port} answers FAILED_PRECONDITION")
        assert "LIMITS_FILE" in error


def test_limits_are_listed_whole(many):
    listed = printed("limits", "list", **many).splitlines()
    assert re.fullmatch(r"6 limits of \S+/limits.yaml, loaded \S+Z, hashed by global", listed[1])
    assert "\n".join(listed[2:]) == """\
Reloads: 0 succeeded, 0 failed

LIMIT           PATH       ATTRIBUTES  BY                       CAPACITY  REFILL    COST  OVERRIDES
user            *          -           user                     9         1 per 1d  1     1
api             /api/*     -           path                     9         1 per 1d  1     -
login           /login     -           user, path               9         1 per 1d  1     2
free            *          plan=free   all                      9         1 per 1d  3     -
tenant          *          -           attributes.tenant        9         1 per 1d  1     1
trial (shadow)  /api/v1/*  plan=trial  user, attributes.tenant  9         1 per 1d  1     -"""
    answer = json.loads(printed("limits", "list", "--json", **many))
    assert [len(limit["overrides"]) for limit in answer["limits"]] == [1, 0, 2, 0, 1, 0]


def test_refund_and_reset(many):
    words = ["eve", "/login", "--attribute", "plan=free"]
    printed("check", *words, "--cost", "3", **many)
    assert printed("refund", *words, "--cost", "2", "--limit", "user", **many) == """
LIMIT  LEFT  CAPACITY
user   8     9
"""
    assert printed("refund", *words, **many) == """
LIMIT  LEFT  CAPACITY
user   9     9
login  7     9
free   3     9
"""
    # What others pay to as well is made full only where it is named.
    assert json.loads(printed("reset", *words, "--json", **many)) == {"limits": [
        {"name": "user", "remaining": 9, "limit": 9},
        {"name": "login", "remaining": 9, "limit": 9}]}
    assert printed("reset", *words, "--limit", "free", **many) == """
LIMIT  LEFT  CAPACITY
free   9     9
"""
    assert printed("reset", "ann", **many) == (
        "\nNo bucket was changed: no limit with a bucket of this user applies to the request.\n")
    assert "answers NOT_FOUND: no limit \"api\" applies" in refused(
        "reset", *words, "--limit", "api", **many)


def test_reload(tmp_path):
    with administered(MANY, tmp_path) as environment:
        assert printed("reload", **environment) == "\nReloads: 1 succeeded, 0 failed\n"
        (tmp_path / "limits.yaml").write_text("limits: 1\nsurprise: 2\n")
        done = rlctl("reload", **environment)
        assert (done.returncode, done.stdout) == (1, "")
        what, *errors = done.stderr.splitlines()
        assert "answers INVALID_ARGUMENT: " in what and len(errors) == 2
        assert all(error.startswith(f"{tmp_path}/limits.yaml:") for error in errors)
        listed = printed("limits", "list", **environment).splitlines()
        assert listed[3:5] == errors and len(listed) == 2 + 1 + 2 + 1 + 1 + 6


# --- Limits files ---


@pytest.fixture
def files(tmp_path):
    """A valid file, one with two errors, and one that is not there."""
    good, bad, missing = (tmp_path / name for name in ("good.yaml", "bad.yaml", "missing.yaml"))
    good.write_text(LIMITS)
    bad.write_text("limits:\n  - name: a\n    capacity: -1\n    refill: 1 per 1s\n"
                   "    surprise: 1\n")
    return good, bad, missing


def test_valid_files(files):
    good, *_ = files
    assert printed("limits", "validate", good) == f"\n{good}: valid, 4 limits\n"
    assert json.loads(printed("limits", "validate", good, "--json")) == {
        "files": [{"file": str(good), "valid": True, "errors": [], "warnings": []}]}


def test_every_error_of_every_file_is_told(files):
    good, bad, missing = files
    done = rlctl("limits", "validate", bad, good, missing)
    assert (done.returncode, done.stdout) == (78, f"{good}: valid, 4 limits\n")
    errors = done.stderr.splitlines()
    assert [error.split(": ")[0] for error in errors] == [f"{bad}:3:15", f"{bad}:5:5", str(missing)]
    assert all("; accepted: " in error for error in errors[:2])
    done = rlctl("limits", "validate", bad, good, missing, "--json")
    assert (done.returncode, done.stderr) == (78, "")
    told = json.loads(done.stdout)["files"]
    assert [file["valid"] for file in told] == [False, True, False]
    assert [error for file in told for error in file["errors"]] == errors


def test_warnings_are_told_and_no_errors(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("hash_by: global" + LIMITS)
    done = rlctl("limits", "validate", file)
    assert (done.returncode, done.stdout) == (0, f"{file}: valid, 4 limits\n")
    (warning,) = done.stderr.splitlines()
    assert warning.startswith(f"warning: {file}:1:")
    (told,) = json.loads(printed("limits", "validate", file, "--json"))["files"]
    assert told["valid"] and told["warnings"] == [warning.removeprefix("warning: ")]


# --- The page about it ---


def test_the_page_lists_every_command():
    page = (harness.ROOT / "docs" / "use" / "rlctl.md").read_text()
    listed = re.findall(r"^\| `(\w+)", page, re.MULTILINE)
    assert sorted(set(listed)) == commands_of_help()


# --- Help and completion ---


def commands_of_help() -> list:
    # The heading is in capitals in newer releases of CLI11.
    listed = re.split("Subcommands:", printed("--help"), flags=re.IGNORECASE)[1]
    return sorted(re.findall(r"^  (\w+) ", listed, re.MULTILINE))


def test_every_command_tells_its_help():
    commands = commands_of_help()
    assert commands == ["bench", "check", "completion", "explain", "healthcheck", "limits", "refund",
                        "reload", "reset", "usage"]
    for command in commands:
        assert f"rlctl {command} " in printed(command, "--help")


def completed(*words) -> list:
    """What bash offers for the last of the words."""
    script = """
source <("$0" completion bash)
compopt() { :; }  # There is no line that is being completed.
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_rlctl rlctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    return harness.output_of("bash", "-euc", script, harness.RLCTL, *words).split()


def test_bash_completes(tmp_path):
    assert completed("rlctl", "c") == ["check", "completion"]
    assert completed("rlctl", "limits", "") == ["--help", "list", "validate"]
    assert completed("rlctl", "check", "alice", "--d") == ["--dry-run"]
    assert completed("rlctl", "check", "limits", "--a") == ["--attribute"]
    assert completed("rlctl", "check", "--cost", "") == []
    assert completed("rlctl", "completion", "") == ["--help", "bash"]
    (tmp_path / "limits.yaml").touch()
    assert completed("rlctl", "limits", "validate", f"{tmp_path}/l") == [f"{tmp_path}/limits.yaml"]
    assert completed("rlctl", "limits", "validate", "--j") == ["--json"]


def test_the_tab_key_completes():
    master, terminal = pty.openpty()
    environment = harness.clean_environment(TERM="dumb", HISTFILE="")
    with subprocess.Popen(["bash", "--noprofile", "--norc", "-i"], stdin=terminal, stdout=terminal,
                          stderr=terminal, env=environment, start_new_session=True) as bash:
        try:
            os.close(terminal)
            keys = f"PATH=$PATH:{harness.RLCTL.parent}\nsource <(rlctl completion bash)\n"
            os.write(master, f"{keys}rlctl com\tb\tand-no-more\n".encode())
            shown = b""
            while b"rlctl completion bash --help" not in shown:
                assert select.select([master], [], [], 20)[0], shown
                shown += os.read(master, 65536)
            assert b"not expected: and-no-more" in shown
        finally:
            harness.end(bash)
            os.close(master)


@pytest.mark.parametrize("command", [
    "check", "usage", "healthcheck", "explain", "reset", "refund", "reload", "limits list",
    "limits validate", "bench"])
def test_bash_completes_every_option(command):
    listed = re.split("\nOptions:", printed(*command.split(), "--help"), flags=re.IGNORECASE)[1]
    options = re.findall(r"--[\w-]+", listed)
    assert completed("rlctl", *command.split(), "--") == list(dict.fromkeys(options))
