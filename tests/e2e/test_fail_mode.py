"""FAIL_MODE: what calls get while a real Redis is frozen or gone, and after it is back."""

import contextlib
import json
import signal
import subprocess
import urllib.error
import urllib.request

import grpc
import harness
import pytest

MODES = ["error", "open", "closed", "local"]


def freeze(redis):
    redis.process.send_signal(signal.SIGSTOP)


def thaw(redis):
    redis.process.send_signal(signal.SIGCONT)


FAULTS = {"frozen": (freeze, thaw), "killed": (harness.Redis.kill, harness.Redis.start)}


@contextlib.contextmanager
def daemon_over(redis, **settings):
    with harness.daemon(REDIS_URL=redis.url, REDIS_TIMEOUT="500ms", ADMIN_PORT=0, DENY_CACHE_MAX_AGE=0,
                        **settings) as daemon:
        yield daemon


def readyz(daemon) -> tuple:
    url = f"http://127.0.0.1:{daemon.admin_port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def degraded(daemon) -> dict:
    """Calls by mode, without those that have none."""
    return {sample.labels["mode"]: sample.value
            for sample in daemon.samples("rate_limiter_degraded_total") if sample.value}


def requests(daemon, user) -> dict:
    return {sample.labels["status"]: sample.value
            for sample in daemon.samples("rate_limiter_requests_total")
            if sample.labels["user"] == user and sample.value}


def expect_heals(daemon):
    """The store decides again, as if nothing had been."""
    def answered():
        with contextlib.suppress(grpc.RpcError):
            return "fail_mode" not in daemon.allow("healed")
        return False
    harness.wait_until(answered, what="the store's decision")
    harness.wait_until(lambda: readyz(daemon) == (200, {"status": "ready"}), what="readiness")
    assert daemon.health() == daemon.health("limiter.RateLimiter") == "SERVING"
    answer = daemon.allow("fresh")
    assert answer["reason"] == "Request allowed" and answer["remaining"] == 4
    assert daemon.usage("fresh")["requests_used"] == 1


def expect_facts_are_refused(daemon):
    error = harness.error_of(daemon.usage, "user")
    assert error.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_store_that_fails(mode, fault):
    begin, end = FAULTS[fault]
    with harness.redis_server() as redis, daemon_over(redis, FAIL_MODE=mode, REFILL_INTERVAL="1h") as daemon:
        assert daemon.allow("user")["remaining"] == 4
        begin(redis)
        try:
            {"error": expect_error, "open": expect_open, "closed": expect_closed,
             "local": expect_local}[mode](daemon)
            expect_facts_are_refused(daemon)
            expect_readiness(daemon, mode)
        finally:
            end(redis)
        expect_heals(daemon)
        assert daemon.log_text().count("store failed; ") in (1, 2)  # Once in 10 s.
        assert f"decided by FAIL_MODE={mode}: " in daemon.log_text()


def expect_error(daemon):
    for _ in range(3):
        assert harness.error_of(daemon.allow, "user").code() == grpc.StatusCode.UNAVAILABLE
    assert degraded(daemon) == {"error": 3}
    assert requests(daemon, "user") == {"allowed": 1, "error": 3}


def expect_open(daemon):
    for _ in range(10):
        assert daemon.allow("user", details=True) == {
            "allowed": True, "fail_mode": "open",
            "reason": "Request allowed: the store is not available (FAIL_MODE=open)"}
    assert degraded(daemon) == {"open": 10}
    assert requests(daemon, "user") == {"allowed": 11}


def expect_closed(daemon):
    for _ in range(3):
        assert daemon.allow("user", details=True) == {
            "allowed": False, "fail_mode": "closed",
            "reason": "Request refused: the store is not available (FAIL_MODE=closed)"}
    assert degraded(daemon) == {"closed": 3}
    assert requests(daemon, "user") == {"allowed": 1, "denied": 3}


def expect_local(daemon):
    answers = [daemon.allow("user") for _ in range(6)]
    # The instance's own bucket, which was not asked before.
    assert [answer["remaining"] for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert all(answer["fail_mode"] == "local" and answer["limit"] == 5 for answer in answers)
    assert answers[0]["reason"] == "Request allowed: the store is not available (FAIL_MODE=local)"
    refused = answers[-1]
    assert refused["reason"] == ('Limit "default" exceeded: cost 1, 0 of 5 tokens left: the store is '
                                 'not available (FAIL_MODE=local)')
    assert 3500 < float(refused["retry_after"].rstrip("s")) <= 3600
    assert degraded(daemon) == {"local": 6}
    assert requests(daemon, "user") == {"allowed": 6, "denied": 1}


def expect_readiness(daemon, mode):
    if mode == "error":
        harness.wait_until(lambda: readyz(daemon)[0] == 503, what="not ready")
        body = readyz(daemon)[1]
        assert body["status"] == "not ready" and "Redis at 127.0.0.1" in body["reason"]
        assert daemon.health() == daemon.health("limiter.RateLimiter") == "NOT_SERVING"
        return
    harness.wait_until(lambda: readyz(daemon)[1]["status"] == "degraded", what="degraded")
    status, body = readyz(daemon)
    assert status == 200 and set(body) == {"status", "reason"} and body["reason"]
    assert daemon.health() == daemon.health("limiter.RateLimiter") == "SERVING"


def test_a_start_without_a_store():
    with harness.redis_server() as redis:
        redis.kill()
        with daemon_over(redis, FAIL_MODE="open") as daemon:
            expect_readiness(daemon, "open")
            assert daemon.allow("user")["fail_mode"] == "open"
            redis.start()
            expect_heals(daemon)
            assert daemon.terminate() == 0


def test_two_instances_share_what_each_gives_by_itself():
    with harness.redis_server() as redis, contextlib.ExitStack() as stack:
        daemons = [stack.enter_context(daemon_over(redis, FAIL_MODE="local", LOCAL_SHARE="0.5", CAPACITY=10,
                                                   REFILL_INTERVAL="1h")) for _ in range(2)]
        redis.kill()
        answers = [daemon.allow("user") for daemon in daemons for _ in range(8)]
        assert sum(answer["allowed"] for answer in answers) == 10
        assert {answer["limit"] for answer in answers} == {5}
        # Accepted by the limit, but above what this instance has of it.
        refused = daemons[0].allow("another", cost=6)
        assert refused["allowed"] is False and "retry_after" not in refused
        assert daemons[0].allow("another", cost=5)["allowed"] is True


def test_limits_name_their_own_and_the_strictest_holds(tmp_path):
    limits = tmp_path / "limits.yaml"
    limits.write_text("""
limits:
  - {name: all, capacity: 100, refill: 1 per 1h}
  - {name: login, path: /login, fail_mode: closed, capacity: 5, refill: 1 per 1h}
  - {name: search, path: /search, fail_mode: local, capacity: 1, refill: 1 per 1h}
  - {name: pay, path: /pay, fail_mode: error, capacity: 5, refill: 1 per 1h}
  - {name: trial, path: /trial, fail_mode: error, shadow: true, capacity: 5, refill: 1 per 1h}
""")
    with harness.redis_server() as redis, \
            daemon_over(redis, FAIL_MODE="open", LIMITS_FILE=limits, RATELIMIT_HEADERS="on") as daemon:
        redis.kill()
        assert daemon.allow("user", "/")["fail_mode"] == "open"
        assert daemon.allow("user", "/trial")["fail_mode"] == "open"
        assert daemon.allow("user", "/login")["fail_mode"] == "closed"
        first, second = daemon.allow("user", "/search"), daemon.allow("user", "/search")
        assert (first["fail_mode"], first["allowed"], first["limit_name"]) == ("local", True, "search")
        assert (second["fail_mode"], second["allowed"]) == ("local", False)
        assert harness.error_of(daemon.allow, "user", "/pay").code() == grpc.StatusCode.UNAVAILABLE
        # The setting alone decides it, whatever limits say.
        expect_readiness(daemon, "open")

        paths = ["/", "/login", "/search", "/pay"]
        results = daemon.call("AllowRequests",
                              requests=[{"user_id": "user", "path": path} for path in paths])["results"]
        assert [result.get("response", {}).get("fail_mode") for result in results] == \
            ["open", "closed", "local", None]
        assert results[3]["code"] == grpc.StatusCode.UNAVAILABLE.value[0]

        def headers(path):
            request = harness.message("AllowRequestRequest")(user_id="user", path=path)
            method = daemon.channel.unary_unary("/limiter.RateLimiter/AllowRequest")
            _, call = method.with_call(request.SerializeToString(), timeout=10)
            return {key for key, _ in call.initial_metadata() if key.startswith("ratelimit")}
        assert headers("/") == headers("/login") == set()
        assert headers("/search") == {"ratelimit", "ratelimit-policy"}


def test_rlctl_shows_it():
    def check(daemon, *flags):
        return subprocess.run([harness.RLCTL, "check", "user", "--target", daemon.address, *flags],
                                      capture_output=True, text=True, timeout=20,
                                      env=harness.clean_environment())
    with harness.redis_server() as redis, daemon_over(redis, FAIL_MODE="closed") as closed, \
            daemon_over(redis, FAIL_MODE="open") as opened:
        redis.kill()
        refused = check(closed)
        assert (refused.returncode, refused.stdout) == (
            3, "Request refused: the store is not available (FAIL_MODE=closed)\n"
               "How its limits stand is not known.\n")
        assert check(opened).stdout.startswith(
            "Request allowed: the store is not available (FAIL_MODE=open)\n")
        assert json.loads(check(opened, "--json").stdout)["fail_mode"] == "open"
