"""Start, end, and every fault of Redis in between; each fault ends with proven
recovery."""

import concurrent.futures
import contextlib
import os
import pathlib
import re
import select
import signal
import socket
import time

import grpc
import pytest

import harness
import stalls

SERVICES = ["", "limiter.RateLimiter"]
# REDIS_TIMEOUT of tests that wait for it.
TIMEOUT = 0.5
SHORT = {"REDIS_TIMEOUT": f"{TIMEOUT * 1000:.0f}ms"}
# The longest time between two probes of a Redis that was given up.
PROBES = 2.0


@pytest.fixture
def redis():
    with harness.redis_server() as server:
        yield server


def check_unavailable(daemon, says):
    """A call ends in time, UNAVAILABLE, with a reason."""
    for call in (daemon.allow, daemon.usage):
        begun = time.monotonic()
        error = harness.error_of(call, "user")
        assert time.monotonic() - begun < TIMEOUT + stalls.allowance(begun)
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert re.search(says, error.details())


def wait_until_serving(daemon):
    harness.wait_until(lambda: all(daemon.health(service) == "SERVING" for service in SERVICES),
                       what="SERVING")


def failed(outcomes) -> list:
    return [outcome for outcome in list(outcomes) if outcome.error is not None]


def wait_for_successes(outcomes, least=100):
    """Waits until so many more calls have succeeded."""
    begin = len(outcomes)
    harness.wait_until(lambda: len(new := outcomes[begin:]) - len(failed(new)) >= least,
                       what=f"{least} more calls that succeed")


def wait_for_failures(outcomes, least=20):
    begin = len(outcomes)
    harness.wait_until(lambda: len(failed(outcomes[begin:])) >= least,
                       what=f"{least} more calls that fail")


# --- Redis away, and back ---


def test_starts_while_redis_is_away_and_heals():
    port = harness.free_port()
    with harness.daemon(REDIS_URL=f"redis://127.0.0.1:{port}", **SHORT) as daemon:
        check_unavailable(daemon, f"Redis at 127.0.0.1:{port} is not available: Connection refused")
        assert [daemon.health(service) for service in SERVICES] == ["NOT_SERVING"] * 2
        (errors,) = [sample.value for sample in daemon.samples("rate_limiter_requests_total")
                     if sample.labels == {"user": "user", "status": "error"}]
        assert errors == 1
        assert daemon.log_text().count("not ready: ") == 1
        with harness.redis_server(port=port):
            wait_until_serving(daemon)
            assert daemon.allow("user")["remaining"] == 4


def test_starts_while_redis_does_not_answer_and_heals(redis):
    redis.process.send_signal(signal.SIGSTOP)
    with harness.daemon(REDIS_URL=redis.url) as daemon:
        assert [daemon.health(service) for service in SERVICES] == ["NOT_SERVING"] * 2
        redis.process.send_signal(signal.SIGCONT)
        wait_until_serving(daemon)
        daemon.await_log('"message":"ready"')
        assert daemon.allow("user")["remaining"] == 4


def test_redis_killed_and_restarted_under_load(redis):
    with harness.daemon(REDIS_URL=redis.url) as daemon:
        away = []
        with harness.load(lambda: daemon.allow("user")) as outcomes:
            for _ in range(3):
                wait_for_successes(outcomes)
                begun = time.monotonic()
                redis.kill()
                wait_for_failures(outcomes)
                harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
                redis.start()
                back = time.monotonic()
                wait_for_successes(outcomes, least=1)
                assert time.monotonic() - back < PROBES + stalls.allowance(back)
                away.append((begun, time.monotonic()))
            wait_for_successes(outcomes)
            wait_until_serving(daemon)
        for outcome in failed(outcomes):
            assert outcome.error.code() == grpc.StatusCode.UNAVAILABLE
            assert "not available" in outcome.error.details()
            assert any(outcome.begun < back and outcome.ended > gone for gone, back in away)


@pytest.mark.parametrize("flush", ["SCRIPT FLUSH", "FLUSHALL"])
def test_redis_flushed_under_load(flush, redis):
    with harness.daemon(REDIS_URL=redis.url) as daemon:
        with harness.load(lambda: daemon.allow("user")) as outcomes:
            for _ in range(30):
                wait_for_successes(outcomes, least=10)
                assert redis.cli(*flush.split()) == "OK"
            wait_for_successes(outcomes)
        assert failed(outcomes) == []


def test_redis_stopped_and_continued_under_load(redis):
    with harness.daemon(REDIS_URL=redis.url, **SHORT) as daemon:
        with harness.load(lambda: daemon.allow("user")) as outcomes:
            wait_for_successes(outcomes)
            stopped = time.monotonic()
            redis.process.send_signal(signal.SIGSTOP)
            wait_for_failures(outcomes)
            harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
            redis.process.send_signal(signal.SIGCONT)
            wait_for_successes(outcomes)
        wait_until_serving(daemon)
        assert daemon.usage("user")
        meanwhile = [outcome for outcome in failed(outcomes) if outcome.begun > stopped]
        assert meanwhile
        for outcome in meanwhile:
            assert outcome.error.code() == grpc.StatusCode.UNAVAILABLE
            assert "(REDIS_TIMEOUT is {REDIS_TIMEOUT})".format(**SHORT) in outcome.error.details()
        # One to connect or wait for a place, one for the reply.
        assert max(outcome.ended - outcome.begun for outcome in outcomes) < 2 * TIMEOUT + stalls.allowance(stopped)


def breaker(daemon) -> tuple:
    """Whether it is open, and how often it has opened, as the metrics tell."""
    return tuple(daemon.samples(f"rate_limiter_breaker_{name}")[0].value
                 for name in ("open", "opened_total"))


def test_a_redis_that_fails_is_given_up_and_taken_back(redis):
    with harness.daemon(REDIS_URL=redis.url, **SHORT) as daemon:
        wait_until_serving(daemon)
        assert breaker(daemon) == (0, 0)
        redis.process.send_signal(signal.SIGSTOP)
        harness.wait_until(lambda: harness.error_of(daemon.allow, "user") and
                           breaker(daemon) == (1, 1), what="the breaker's opening")
        begun = time.monotonic()
        for _ in range(100):
            assert "circuit breaker open for" in harness.error_of(daemon.allow, "user").details()
        assert time.monotonic() - begun < 10 * TIMEOUT, "100 calls do not wait"
        harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
        redis.process.send_signal(signal.SIGCONT)
        wait_until_serving(daemon)
        assert daemon.allow("user")["allowed"]
        assert breaker(daemon) == (0, 1)
        log = daemon.log_text()
        for change in ("opened; probing: ", "closed after "):
            assert log.count(f"circuit breaker of Redis at 127.0.0.1:{redis.port} {change}") == 1


def test_connections_that_redis_closes_are_replaced_and_not_leaked(redis):
    # There is one connection, and each call needs it.
    with harness.daemon(REDIS_URL=redis.url, DENY_CACHE_MAX_AGE=0) as daemon:
        daemon.allow("user")
        descriptors = f"/proc/{daemon.process.pid}/fd"
        before = len(os.listdir(descriptors))
        for _ in range(200):
            assert int(redis.cli("CLIENT", "KILL", "TYPE", "normal")) >= 1
            daemon.allow("user")
        harness.wait_until(lambda: len(os.listdir(descriptors)) <= before,
                           what=f"{before} open descriptors, as before")


# --- Not what a Redis should be ---


@pytest.mark.parametrize("password, says", [
    ("", "Redis asks for a password"),
    (":wrong@", "Redis refuses the user or password"),
    ("no-such-user:right@", "Redis refuses the user or password"),
], ids=["no password", "wrong password", "wrong user"])
def test_credentials_that_redis_refuses(password, says):
    with harness.redis_server("--requirepass", "right") as redis, harness.daemon(
            REDIS_URL=f"redis://{password}127.0.0.1:{redis.port}", **SHORT) as daemon:
        check_unavailable(daemon, says)
        assert daemon.health() == "NOT_SERVING"
        as_owner = ["--no-auth-warning", "-a", "right"]
        redis.cli(*as_owner, "ACL", "SETUSER", "no-such-user", "on", ">right", "~*", "+@all")
        redis.cli(*as_owner, "CONFIG", "SET", "requirepass", "wrong" if "wrong" in password else "")
        wait_until_serving(daemon)
        assert daemon.allow("user")["allowed"]


def garbage(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def drips(connection):
    """The beginning of a reply, byte by byte, which never ends."""
    while not select.select([connection], [], [], 0.02)[0] or connection.recv(65536):
        connection.sendall(b"+")


def floods(connection):
    """As much as is taken of a line that never ends."""
    connection.sendall(b"+")
    while True:
        connection.sendall(b"x" * 65536)


def silent(connection):
    while connection.recv(65536):
        pass


def closes(connection):
    connection.recv(65536)


@pytest.mark.parametrize("speak, says", [
    (garbage, "not Redis's protocol"), (drips, "no answer in time"),
    (floods, "no answer in time"), (silent, "no answer in time"),
    (closes, "Server closed the connection|Connection reset"),
], ids=lambda part: getattr(part, "__name__", ""))
def test_a_server_that_is_not_redis(speak, says):
    with harness.fake_server(speak) as port, harness.daemon(
            REDIS_URL=f"redis://127.0.0.1:{port}", **SHORT) as daemon:
        check_unavailable(daemon, f"Redis at 127.0.0.1:{port} is not available: ({says})")
        assert daemon.health() == "NOT_SERVING"


def test_a_server_that_never_accepts():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address, port = listener.getsockname()
        for _ in range(2):  # Linux lets one more in than the backlog.
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        with harness.daemon(REDIS_URL=f"redis://{address}:{port}", **SHORT) as daemon:
            check_unavailable(daemon, "no answer in time")


def test_a_host_that_has_no_address():
    with harness.daemon(REDIS_URL="redis://no-such-host.invalid", **SHORT) as daemon:
        check_unavailable(daemon, "no-such-host.invalid:6379 is not available: .*resolve")
        assert daemon.health() == "NOT_SERVING"


@pytest.mark.parametrize("spoil, heal, says", [
    ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
    ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"),
], ids=["demoted", "out of memory"])
def test_a_redis_that_refuses_decisions(spoil, heal, says, redis):
    with harness.daemon(REDIS_URL=redis.url, REFILL_INTERVAL="30d", **SHORT) as daemon:
        wait_until_serving(daemon)
        assert daemon.allow("user")["remaining"] == 4
        assert redis.cli(*spoil.split()) == "OK"
        check_unavailable(daemon, f'Redis answered "{says} ')
        harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
        assert [daemon.health(service) for service in SERVICES] == ["NOT_SERVING"] * 2
        assert redis.cli(*heal.split()) == "OK"
        wait_until_serving(daemon)
        assert daemon.allow("user")["remaining"] == 3


@pytest.mark.parametrize("spoil", [
    ["SET", "{key}", "a string"], ["HSET", "{key}", "tokens", "many", "time", "now"],
    ["HSET", "{key}", "tokens", "3"],
], ids=["a string", "words for numbers", "no time"])
def test_a_key_that_is_not_a_bucket(spoil, redis):
    with harness.daemon(REDIS_URL=redis.url, REFILL_INTERVAL="30d", **SHORT) as daemon:
        daemon.allow("bystander")
        key = "rl:1:default:{victim}"
        redis.cli(*[word.format(key=key) for word in spoil])
        for call in (daemon.allow, daemon.usage):
            error = harness.error_of(call, "victim")
            assert error.code() == grpc.StatusCode.INTERNAL
            assert error.details()
        assert daemon.allow("bystander")["remaining"] == 3
        assert daemon.health() == "SERVING"
        redis.cli("DEL", key)
        assert daemon.allow("victim")["remaining"] == 4


# --- The end ---


def watch_health(daemon):
    """The stream of health's answers, by name, each as it comes."""
    health = harness.proto("health/v1/health")
    watch = daemon.channel.unary_stream("/grpc.health.v1.Health/Watch",
                                        response_deserializer=health.HealthCheckResponse.FromString)
    for answer in watch(b"", timeout=60):
        yield health.HealthCheckResponse.ServingStatus.Name(answer.status)


def test_callers_that_watch_health_lose_nothing(redis):
    with harness.daemon(REDIS_URL=redis.url, DRAIN_TIME="1h") as daemon:
        health = watch_health(daemon)
        assert next(health) == "SERVING"
        with harness.load(lambda: daemon.allow("user")) as outcomes:
            wait_for_successes(outcomes)
            daemon.process.send_signal(signal.SIGTERM)
            assert next(health) == "NOT_SERVING"
            assert [daemon.health(service) for service in SERVICES] == ["NOT_SERVING"] * 2
            wait_for_successes(outcomes)
        assert failed(outcomes) == []
        daemon.channel.close()
        assert daemon.terminate() == 1  # It does not drain for an hour.


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT], ids=lambda end: end.name)
@pytest.mark.parametrize("drain", ["0", "300ms"])
def test_no_accepted_call_is_lost(end, drain, redis):
    capacity = 1_000_000
    with harness.daemon(REDIS_URL=redis.url, DRAIN_TIME=drain, CAPACITY=capacity,
                        REFILL_INTERVAL="1h") as daemon:
        with harness.load(lambda: daemon.allow("user")) as outcomes:
            wait_for_successes(outcomes)
            daemon.process.send_signal(end)
            assert daemon.process.wait(timeout=20) == 0
            wait_for_failures(outcomes)
        refused = failed(outcomes)
        left = redis.cli("HGET", "rl:1:default:{user}", "tokens")
        assert capacity - int(left) == len(outcomes) - len(refused), "each was answered that took"
        for outcome in refused:
            # CANCELLED is gRPC's word for a call that came on an open connection
            # after the last was accepted.
            assert outcome.error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            if outcome.error.code() == grpc.StatusCode.UNAVAILABLE:
                assert "failed to connect to all addresses" in outcome.error.details()


@contextlib.contextmanager
def calls_in_flight(daemon, redis, count=8, pause=60):
    """Calls that wait for Redis until it is unpaused, or `pause` is over, in seconds, as
    readiness's next look does."""
    redis.cli("CLIENT", "PAUSE", f"{pause * 1000}", "WRITE")
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        calls = [pool.submit(daemon.allow, f"user-{number}", timeout=30) for number in range(count)]
        harness.wait_until(lambda: daemon.samples("rate_limiter_in_flight_calls")[0].value == count,
                           what=f"{count} calls in flight")
        yield calls


def accepts(port) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_calls_in_flight_are_finished(redis):
    with harness.daemon(REDIS_URL=redis.url) as daemon:
        with calls_in_flight(daemon, redis) as calls:
            daemon.process.send_signal(signal.SIGTERM)
            harness.wait_until(lambda: not accepts(daemon.port), what="the end of listening")
            redis.cli("CLIENT", "UNPAUSE")
            assert all(call.result()["allowed"] for call in calls)
        assert daemon.process.wait(timeout=20) == 0


def test_calls_in_flight_may_take_as_long_as_redis_may(redis):
    with harness.daemon(REDIS_URL=redis.url) as daemon:
        # Longer than anything but calls is waited for.
        with calls_in_flight(daemon, redis, pause=6) as calls:
            daemon.process.send_signal(signal.SIGTERM)
            assert all(call.result()["allowed"] for call in calls)
        assert daemon.process.wait(timeout=20) == 0


def test_listening_ends_while_redis_is_asked():
    with harness.fake_server(silent) as port, harness.daemon(
            REDIS_URL=f"redis://127.0.0.1:{port}", REDIS_TIMEOUT="1m") as daemon:
        daemon.process.send_signal(signal.SIGTERM)
        harness.wait_until(lambda: not accepts(daemon.port), what="the end of listening")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=10) == 1


def test_a_stop_does_not_cut_the_drain_short():
    drain = 5.0
    with harness.daemon(STORE="memory", DRAIN_TIME=f"{drain * 1000:.0f}ms") as daemon:
        status = pathlib.Path(f"/proc/{daemon.process.pid}/status")
        begun = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
        daemon.process.send_signal(signal.SIGSTOP)
        harness.wait_until(lambda: "State:\tT" in status.read_text(), what="the stop")
        daemon.process.send_signal(signal.SIGCONT)
        harness.wait_until(lambda: not accepts(daemon.port), what="the end of listening")
        assert time.monotonic() - begun >= drain
        assert daemon.process.wait(timeout=20) == 0


@pytest.mark.parametrize("drain, first, second", [
    ("0", signal.SIGTERM, signal.SIGINT), ("1h", signal.SIGTERM, signal.SIGTERM),
    ("1h", signal.SIGINT, signal.SIGTERM)], ids=["finishing", "draining", "draining after SIGINT"])
def test_a_second_signal_ends_at_once(drain, first, second, redis):
    with harness.daemon(REDIS_URL=redis.url, DRAIN_TIME=drain) as daemon:
        with calls_in_flight(daemon, redis) as calls:
            daemon.process.send_signal(first)
            if drain == "0":
                harness.wait_until(lambda: not accepts(daemon.port), what="the end of listening")
            else:
                harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
            daemon.process.send_signal(second)
            assert daemon.process.wait(timeout=10) == 1
            assert all(harness.error_of(call.result) for call in calls)
