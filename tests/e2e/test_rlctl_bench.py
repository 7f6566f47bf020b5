"""rlctl bench: what it puts on a daemon, what it counts, and what it says. Latencies
are the machine's; no test asserts one."""

import collections
import concurrent.futures
import contextlib
import itertools
import json
import os
import pty
import signal
import socket
import subprocess
import threading

import grpc
import pytest

import harness

# All is allowed.
AMPLE = {"CAPACITY": 1_000_000, "REFILL_TOKENS": 1_000_000, "REFILL_INTERVAL": "1s"}


@pytest.fixture
def daemon():
    """One that nobody else has asked: its counts are the bench's alone."""
    with harness.daemon(STORE="memory", **AMPLE) as running:
        yield running


def bench(*words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run([harness.RLCTL, "bench", *words], timeout=60, capture_output=True,
                          text=True, env=harness.clean_environment(**environment))


def measured(daemon, *words, warmup="0") -> dict:
    """What a bench of one second tells."""
    done = bench("--warmup", warmup, "--duration", "1s", "--timeout", "30s", "--json", *words,
                 PORT=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    check(result)
    return result


def check(result: dict):
    """What holds of every result."""
    assert list(result) == ["calls", "accepted", "calls_per_second", "decisions_per_second",
                            "allowed", "denied", "errors", "duration_seconds", "latency_us",
                            "max_send_lag_us", "histogram"]
    latency = result["latency_us"]
    assert list(latency) == ["mean", "p50", "p90", "p99", "p999", "max"]
    quantiles = [latency[key] for key in ("p50", "p90", "p99", "p999", "max")]
    assert 0 < quantiles[0] and quantiles == sorted(quantiles)
    assert sum(row["calls"] for row in result["histogram"]) == result["accepted"]
    for row, following in zip(result["histogram"], result["histogram"][1:]):
        assert row["from_us"] < row["to_us"] == following["from_us"]


def requests(result: dict) -> int:
    return result["allowed"] + result["denied"] + sum(result["errors"].values())


def counted(daemon) -> dict:
    """How many requests the daemon has counted, by status."""
    counts = collections.Counter()
    for sample in daemon.samples("rate_limiter_requests_total"):
        counts[sample.labels["status"]] += int(sample.value)
    return +counts


def users_of(daemon) -> dict:
    """How many requests each user has made."""
    counts = collections.Counter()
    for sample in daemon.samples("rate_limiter_requests_total"):
        counts[sample.labels["user"]] += int(sample.value)
    return +counts


# --- The open loop ---


def test_an_open_loop_sends_every_call_that_is_due(daemon):
    result = measured(daemon, "--rate", "500")
    assert result["calls"] == result["accepted"] == result["allowed"] == 500
    assert (result["denied"], result["errors"]) == (0, {})
    assert result["duration_seconds"] == 1
    assert 0 < result["calls_per_second"] == result["decisions_per_second"] <= 500
    assert result["max_send_lag_us"] > 0
    assert counted(daemon) == {"allowed": 500}


def test_by_default_it_is_modest(daemon):
    assert measured(daemon)["calls"] == 100
    assert users_of(daemon) == {"user-000000": 100}


def test_calls_of_the_warm_up_do_not_count(daemon):
    result = measured(daemon, "--rate", "200", warmup="500ms")
    assert result["calls"] == 200
    assert counted(daemon) == {"allowed": 300}


def test_refusals_are_counted_apart():
    with harness.daemon(STORE="memory", CAPACITY=30, REFILL_INTERVAL="30d") as daemon:
        result = measured(daemon, "--rate", "100")
        assert (result["accepted"], result["allowed"], result["denied"]) == (100, 30, 70)
        assert counted(daemon) == {"allowed": 30, "denied": 70}


def test_a_cost_is_paid():
    with harness.daemon(STORE="memory", CAPACITY=30, REFILL_INTERVAL="30d") as daemon:
        assert measured(daemon, "--rate", "100", "--cost", "3")["allowed"] == 10


# --- The closed loop ---


def test_a_closed_loop_sends_when_the_last_is_answered(daemon):
    result = measured(daemon, "--callers", "8")
    assert requests(result) == result["calls"] == result["accepted"] > 8
    assert counted(daemon) == {"allowed": result["calls"]}
    assert result["max_send_lag_us"] == 0


@contextlib.contextmanager
def fake_daemon(answer):
    """A server that answers looks, and other calls by answer(their number, context).
    Gives its port."""
    request_type = harness.message("AllowRequestRequest")
    numbers = itertools.count(1)

    def serve(request, context):
        look = request_type.FromString(request)
        allowed = look.HasField("cost") and look.cost == 0 or answer(next(numbers), context)
        return harness.message("AllowRequestResponse")(allowed=allowed).SerializeToString()

    class Handler(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.unary_unary_rpc_method_handler(serve)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def test_an_open_loop_goes_on_whatever_the_answers_do():
    over = threading.Event()
    with fake_daemon(lambda number, _: number == 1 or over.wait()) as port:
        done = bench("--warmup", "0", "--duration", "1s", "--rate", "50", "--timeout", "3s",
                     "--json", PORT=port)
        over.set()
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    check(result)
    assert (result["calls"], result["accepted"]) == (50, 1)
    assert result["errors"] == {"DEADLINE_EXCEEDED": 49}


def retry_info(milliseconds) -> tuple:
    """The trailer in which gRPC carries a RetryInfo."""
    info = harness.proto("rpc/error_details").RetryInfo()
    info.retry_delay.FromMilliseconds(milliseconds)
    status = harness.proto("rpc/status").Status(code=8, message="too many calls in flight")
    status.details.add().Pack(info)
    return "grpc-status-details-bin", status.SerializeToString()


def refusals(*trailers) -> int:
    """How often one caller is refused within 2 s, whose first call passes, and every
    fourth after it."""

    def answer(number, context):
        if number % 4 == 1:
            return True
        context.set_trailing_metadata(trailers)
        return context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls in flight")

    with fake_daemon(answer) as port:
        done = bench("--warmup", "0", "--duration", "2s", "--callers", "1", "--timeout", "20s",
                     "--json", PORT=port)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    check(result)
    assert requests(result) == result["calls"]
    assert result["accepted"] == result["allowed"] == (result["calls"] + 3) // 4
    assert list(result["errors"]) == ["RESOURCE_EXHAUSTED"]
    return result["errors"]["RESOURCE_EXHAUSTED"]


def test_a_refused_caller_waits_as_long_as_told():
    # The last wait may end with the bench.
    assert refusals(retry_info(300)) <= 2000 / 300 + 1
    # A caller that waits by itself is refused less often.
    assert refusals(retry_info(1)) > 2000 / 50 + 1


@pytest.mark.parametrize("trailers", [[], [("grpc-status-details-bin", b"\xff")]], ids=str)
def test_a_refused_caller_that_is_not_told_waits_by_itself(trailers):
    assert refusals(*trailers) <= 2000 / 50 + 1


# --- What is asked ---


def test_users_are_spread(daemon):
    measured(daemon, "--rate", "1000", "--users", "50")
    users = users_of(daemon)
    assert sorted(users) == [f"user-{number:06}" for number in range(50)]
    assert max(users.values()) < 100


def test_zipf_prefers_the_first_of_a_million(daemon):
    measured(daemon, "--rate", "1000", "--users", "1000000", "--zipf", "1.2")
    users = users_of(daemon)
    # 1/5.5 of all; the choices are the same in every run.
    assert 120 < users["user-000000"] < 300
    assert 60 < users["user-000001"] < users["user-000000"]
    assert len(users) > 100


PATHS = """
limits:
  - {name: a, path: /a, capacity: 1000, refill: 1 per 30d}
  - {name: b, path: /b, capacity: 1000, refill: 1 per 30d}
  - {name: small, path: /small, capacity: 20, refill: 1 per 30d}
"""


@pytest.fixture
def paths(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text(PATHS)
    with harness.daemon(STORE="memory", LIMITS_FILE=file) as running:
        yield running


def decided(daemon) -> dict:
    return {(sample.labels["limit"], sample.labels["status"]): int(sample.value)
            for sample in daemon.samples("rate_limiter_decisions_total") if sample.value}


def test_paths_are_taken_in_turns(paths):
    measured(paths, "--rate", "100", "--path", "/a", "--path=/b")
    assert decided(paths) == {("a", "allowed"): 50, ("b", "allowed"): 50}


def test_a_batch_decides_many_in_a_call(paths):
    result = measured(paths, "--rate", "10", "--batch", "10", "--path", "/a", "--path", "/small")
    assert (result["calls"], result["accepted"]) == (10, 10)
    assert (result["allowed"], result["denied"], result["errors"]) == (70, 30, {})
    assert result["decisions_per_second"] == pytest.approx(10 * result["calls_per_second"])
    assert decided(paths) == {("a", "allowed"): 50, ("small", "allowed"): 20,
                              ("small", "denied"): 30}


def test_errors_within_a_batch_are_counted_by_code(paths):
    # What costs more than a limit's capacity could never pass.
    result = measured(paths, "--rate", "10", "--batch", "10", "--cost", "21", "--path", "/a",
                      "--path", "/small")
    assert (result["accepted"], result["allowed"]) == (10, 47)
    assert (result["denied"], result["errors"]) == (3, {"INVALID_ARGUMENT": 50})


@contextlib.contextmanager
def way_that_loses(daemon, lost):
    """A way to the daemon whose `lost`-th connection, from 1 on, ends at once: its port, and a
    function that tells over how many connections it was asked."""
    came, spoke = [], set()

    def forward(connection):
        came.append(connection)
        if len(came) == lost:
            return
        with socket.create_connection(("127.0.0.1", daemon.port)) as upstream:
            threading.Thread(target=pump, args=(upstream, connection), daemon=True).start()
            pump(connection, upstream)

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                spoke.add(source)
                sink.sendall(data)

    with harness.fake_server(forward) as port:
        yield port, lambda: len(spoke.intersection(came))


@pytest.mark.parametrize("lost", [None, 2])
def test_each_connection_is_its_own(daemon, lost):
    """And is made again if it is lost, once it is known that a daemon is there."""
    with way_that_loses(daemon, lost) as (port, asked):
        done = bench("--warmup", "0", "--duration", "100ms", "--connections", "3", "--timeout", "20s",
                     PORT=port)
        assert (done.returncode, done.stderr) == (0, "")
        assert asked() == 3


def test_where_the_first_connection_is_lost_nothing_is_tried_again(daemon):
    with way_that_loses(daemon, 1) as (port, _):
        assert "does not answer" in refused("--connections", "3", PORT=port)


# --- What is printed ---


def test_for_people_there_are_tables(daemon):
    done = bench("--warmup", "0", "--duration", "1s", PORT=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("100 of 100 calls were answered OK: ")
    assert lines[0].endswith(" calls/s for 1s")
    assert " late" in lines[1]
    assert "allowed  100       100.00%" in lines and "denied   0         0.00%" in lines
    assert any(line.split()[:2] == ["LATENCY", "MEAN"] for line in lines)
    assert any(line.endswith("#" * 50) for line in lines)
    done = bench("--warmup", "0", "--duration", "1s", "--batch", "2", PORT=daemon.port)
    assert " decisions/s for 1s" in done.stdout


def on_a_terminal(daemon, *words) -> tuple:
    """What a bench writes to stdout, and what to a terminal that is its stderr."""
    master, terminal = pty.openpty()
    try:
        with subprocess.Popen([harness.RLCTL, "bench", "--warmup", "0", "--duration", "1s", *words],
                              stdout=subprocess.PIPE, stderr=terminal, text=True,
                              env=harness.clean_environment(PORT=daemon.port)) as process:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # The end, as Linux tells it.
            while chunk := os.read(master, 65536):
                shown += chunk
        return out, shown.decode()
    finally:
        os.close(master)


def test_a_terminal_shows_how_far_it_is(daemon):
    out, shown = on_a_terminal(daemon, "--json")
    check(json.loads(out))
    bars = [bar for bar in shown.split("\r") if bar.startswith("[")]
    assert len(bars) > 1 and bars[0] != bars[-1]
    assert all(" calls" in bar and "%" in bar for bar in bars)
    assert "#" in bars[-1]
    # It is gone at the end.
    assert shown.endswith("\r") and shown.split("\r")[-2].strip() == ""


def test_without_a_terminal_there_is_no_bar(daemon):
    assert bench("--warmup", "0", "--duration", "300ms", PORT=daemon.port).stderr == ""


# --- Its end ---


def test_ctrl_c_ends_it_early_with_a_result(daemon):
    with subprocess.Popen([harness.RLCTL, "bench", "--warmup", "0", "--duration", "1h", "--json"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=harness.clean_environment(PORT=daemon.port)) as process:
        try:
            harness.wait_until(lambda: counted(daemon).get("allowed", 0) > 20, what="the first calls")
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=20)
        finally:
            harness.end(process)
    assert (process.returncode, error) == (0, "")
    result = json.loads(out)
    check(result)
    assert result["calls"] == counted(daemon)["allowed"] > 20
    assert 0 < result["duration_seconds"] < 60


def refused(*words, code=1, **environment) -> str:
    """What is said of a bench that fails."""
    done = bench(*words, **environment)
    assert (done.returncode, done.stdout) == (code, "")
    return done.stderr


def test_no_daemon():
    port = harness.free_port()
    (error,) = refused(PORT=port).splitlines()
    assert error.startswith(f"rlctl: localhost:{port} does not answer: ")
    assert error.endswith("; is ratelimiterd running there (--target, PORT), and is it without TLS (--tls)?")


def test_where_nothing_is_answered_ok_the_reason_is_told():
    with harness.daemon(REDIS_URL=f"redis://127.0.0.1:{harness.free_port()}") as daemon:
        for pace in (["--rate", "20"], ["--callers", "2"]):
            what, why = refused("--warmup", "0", "--duration", "500ms", *pace,
                                PORT=daemon.port).splitlines()
            assert what.startswith("rlctl: none of ") and "calls was answered OK" in what
            assert why.startswith(f"rlctl: localhost:{daemon.port} answers UNAVAILABLE: ")


def test_where_no_call_counts_it_is_told(daemon):
    error = refused("--rate", "1", "--warmup", "300ms", "--duration", "300ms", PORT=daemon.port)
    assert error.startswith("rlctl: no call was due within the time that counts (--rate, ")


ACCEPTED = {
    "--rate": ("1 to 1000000", ["0", "-1", "x", "1.5", "1000001"]),
    "--callers": ("1 to 50000", ["0", "50001"]),
    "--connections": ("1 to 1000", ["0", "1001"]),
    "--users": ("1 to 1000000000", ["0", "1000000001"]),
    "--batch": ("1 to 1000", ["0", "1001"]),
    "--zipf": ("0 to 10", ["-1", "x", "nan", "inf", "1.1x", "10.1"]),
    "--duration": ("1ms to 1d", ["0", "2", "1us", "2d"]),
    "--warmup": ("0s to 1d", ["2", "2d"]),
    "--timeout": ("1ms to 1h", ["0"]),
    "--cost": ("0 to 4294967295", ["-1"]),
}


@pytest.mark.parametrize("flag", ACCEPTED)
def test_a_value_that_is_not_accepted(flag):
    accepted, values = ACCEPTED[flag]
    for value in values:
        (error,) = refused(f"{flag}={value}", code=2).splitlines()
        assert error.startswith(f"rlctl: {flag}") and f"accepted: {accepted}" in error
        assert f'"{value}" is not accepted' in error
        assert error.endswith("; see rlctl bench --help")


def test_callers_and_batches_are_bounded_together():
    error = refused("--callers", "2000", "--batch", "501", code=2)
    assert '"2000 times 501" is not accepted; accepted: at most 1000000' in error


def test_a_rate_and_callers_exclude_each_other():
    error = refused("--rate", "10", "--callers", "2", code=2)
    assert "--rate" in error and "--callers" in error and "excludes" in error
