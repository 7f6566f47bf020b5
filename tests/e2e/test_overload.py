"""More calls at once than MAX_IN_FLIGHT."""

import concurrent.futures
import contextlib
import itertools
import signal
import time

import grpc

import harness

CALLERS, PLACES = 8, 2
# Long enough that all others have called and been refused meanwhile.
TIMEOUT = 8.0


def check_shed(error):
    """That a call was refused for there was no place, and what it says of another try."""
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"overloaded: {PLACES} calls in flight (MAX_IN_FLIGHT)" in error.details()
    trailers = dict(error.trailing_metadata())
    status = harness.proto("rpc/status").Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    (detail,) = status.details
    retry = harness.proto("rpc/error_details").RetryInfo()
    assert detail.Unpack(retry)
    assert 1 <= retry.retry_delay.ToTimedelta().total_seconds() <= 3


def counted(daemon) -> dict:
    return {(sample.labels["user"], sample.labels["status"]): sample.value
            for sample in daemon.samples("rate_limiter_requests_total") if sample.value}


def shed(daemon) -> float:
    (sample,) = daemon.samples("rate_limiter_shed_total")
    return sample.value


@contextlib.contextmanager
def no_place_left(daemon, redis):
    """While Redis stands still: gives what the calls came to that hold all places."""
    redis.process.send_signal(signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        try:
            begun = time.monotonic()
            calls = [pool.submit(harness.error_of, daemon.allow, "caller", timeout=60) for _ in range(CALLERS)]
            ended = concurrent.futures.as_completed(calls)
            refused = [call.result() for call in itertools.islice(ended, CALLERS - PLACES)]
            assert time.monotonic() - begun < TIMEOUT, "they are refused at once"
            for error in refused:
                check_shed(error)
            yield [call for call in calls if not call.done()]
        finally:
            redis.process.send_signal(signal.SIGCONT)


def test_calls_beyond_those_in_flight_are_refused_at_once():
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=redis.url, MAX_IN_FLIGHT=PLACES,
            REDIS_TIMEOUT=f"{TIMEOUT * 1000:.0f}ms") as daemon:
        daemon.allow("caller", cost=0)
        assert shed(daemon) == 0
        with no_place_left(daemon, redis) as held:
            assert len(held) == PLACES
            batch = [{"user_id": "first"}, {"user_id": "second"}, {"user_id": "x" * 257}, {}]
            for call in (lambda: daemon.usage("user"), lambda: daemon.allow(""),
                         lambda: daemon.call("AllowRequests", requests=batch)):
                check_shed(harness.error_of(call))
            assert daemon.health(), "it is no call of ours"
            assert not any(call.done() for call in held)
            for call in held:
                assert call.result().code() == grpc.StatusCode.UNAVAILABLE
        harness.wait_until(lambda: daemon.health() == "SERVING", what="SERVING")
        assert daemon.allow("user")["remaining"] == 4
        assert shed(daemon) == CALLERS - PLACES + 3
        assert counted(daemon) == {
            ("caller", "error"): CALLERS, ("user", "allowed"): 1, ("first", "error"): 1,
            ("second", "error"): 1, ("__other__", "error"): 3}


def test_places_are_given_back():
    with harness.daemon(STORE="memory", MAX_IN_FLIGHT=1) as daemon:
        for _ in range(3):
            daemon.allow("user")
            daemon.usage("user")
            daemon.call("AllowRequests", requests=[{"user_id": "user"}])
            harness.error_of(daemon.allow, "")
            harness.error_of(daemon.call, "AllowRequests")
        assert shed(daemon) == 0
