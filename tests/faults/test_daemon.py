"""Faults of the daemon itself, and of those who call it."""

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import time

import grpc
import pytest

from rig import DAEMONS, HANGS, Fault, harness, resources, try_fault

# What no caller of the load may notice. What was kept for so many connections, or so
# large messages, the allocator keeps: with each time that it happens again less is added.
UNNOTICED = {"errors": (), "fails": False, "more_bytes": 32 * 2**20}
MAX_IN_FLIGHT = 400  # By default.
# A daemon's threads that are no call's: more with more processors.
OTHER_THREADS = 100 + 4 * os.cpu_count()
# With those that gRPC keeps after a flood, and those that it has at most.
KEPT_THREADS, MOST_THREADS = (MAX_IN_FLIGHT + more + OTHER_THREADS for more in (32, 1024))
# Some of them are on their way out.
FLOOD = UNNOTICED | {"more_threads": MAX_IN_FLIGHT + 40, "more_bytes": 192 * 2**20}


def send(number):
    return lambda rig: rig.daemons[0].process.send_signal(number)


def kill(rig):
    rig.daemons[0].process.kill()
    rig.daemons[0].process.wait()


# --- Descriptors ---


def exhaust_descriptors(rig):
    """Leaves each daemon few descriptors, and has more connections come than those are;
    what is connected is answered, and scrapers, who connect anew."""
    rig.waiting = []
    for daemon in rig.daemons:
        limit_descriptors(daemon, len(os.listdir(f"/proc/{daemon.process.pid}/fd")) + 30)
        for _ in range(100):
            rig.waiting.append(rig.stack.enter_context(
                socket.create_connection(("127.0.0.1", daemon.port))))
        for _ in range(5):
            assert daemon.health() == "SERVING"
            assert "rate_limiter_requests_total" in daemon.metrics()
        daemon.await_log("gRPC connections are refused")


def limit_descriptors(daemon, most=None):
    """None: to as many as the system allows."""
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (most or hard, hard))


def take_all_descriptors(rig):
    """Leaves none at all: new callers wait until there are some."""
    rig.waiting = []
    for daemon in rig.daemons:
        used = {int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd")}
        limit_descriptors(daemon, min(set(range(1024)) - used))
        for port in (daemon.port, daemon.metrics_port) * 10:
            rig.waiting.append(rig.stack.enter_context(socket.create_connection(("127.0.0.1", port))))
        for _ in range(5):
            assert daemon.health() == "SERVING"


def give_descriptors(rig):
    for connection in rig.waiting:
        connection.close()
    for daemon in rig.daemons:
        limit_descriptors(daemon)
        check_new_callers(daemon)


def other_caller(daemon):
    """A channel with a connection of its own: those with the same settings share one."""
    return grpc.insecure_channel(daemon.address, [("grpc.use_local_subchannel_pool", 1)])


def check_new_callers(daemon):
    assert daemon.metrics()
    with other_caller(daemon) as channel:
        call = channel.unary_unary("/limiter.RateLimiter/GetUsage")
        request = harness.message("GetUsageRequest")(user_id="new").SerializeToString()
        assert call(request, timeout=HANGS, wait_for_ready=True)


# --- Those who do not call as they should ---


def connect_and_be_silent(rig):
    rig.silent = [rig.stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
                  for daemon in rig.daemons for _ in range(1_000 // DAEMONS)]


def end_silence(rig):
    for connection in rig.silent:
        connection.close()


def frame(kind, flags, stream, payload=b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OPENING = PREFACE + frame(SETTINGS, 0, 0)


def field(name: bytes, value: bytes) -> bytes:
    """A header field, as HPACK has it without its tables."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


CALL = b"".join(field(name, value) for name, value in {
    b":method": b"POST", b":scheme": b"http", b":authority": b"localhost",
    b":path": b"/limiter.RateLimiter/AllowRequest", b"content-type": b"application/grpc",
    b"te": b"trailers"}.items())

HTTP1 = [b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\r\n" * 1000,
         b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
         b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
         b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000,
         b"\0" * 1000, random.Random(1).randbytes(10_000)]
HTTP2 = [PREFACE[:10], OPENING, PREFACE + random.Random(2).randbytes(10_000),
         OPENING + b"\xff\xff\xff" + b"\0" * 6, OPENING + frame(HEADERS, 4, 1, b"\xff" * 100),
         OPENING + frame(HEADERS, 4, 2, CALL), OPENING + frame(HEADERS, 0, 1, CALL),
         OPENING + frame(HEADERS, 0, 1, CALL) + frame(CONTINUATION, 0, 1, CALL) * 1_000,
         OPENING + frame(DATA, 1, 1, b"data of no call"), OPENING + frame(WINDOW_UPDATE, 0, 0, b"\0" * 4),
         OPENING + frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
         OPENING + frame(SETTINGS, 0, 0) * 1_000, OPENING + frame(PING, 0, 0, b"12345678") * 1_000,
         OPENING + frame(GOAWAY, 0, 0, b"\xff" * 8),
         OPENING + frame(HEADERS, 4, 1, CALL) + frame(DATA, 1, 1, b"\0\xff\xff\xff\xffabc")]
GIVEN_UP = OPENING + b"".join(frame(HEADERS, 4, stream, CALL) + frame(RST_STREAM, 0, stream, b"\0" * 4)
                              for stream in range(1, 1_000, 2))


def say(message, port):
    """On a connection of its own, and hears what is said first."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.02) as connection, contextlib.suppress(OSError):
        connection.sendall(message)
        connection.recv(65536)


def garbage(messages, seconds=1.5):
    """Connections on both ports, one after the other, of which each says one of them."""
    def run(rig):
        end = time.monotonic() + seconds
        for message in messages * 100:
            for daemon in rig.daemons:
                say(message, daemon.port)
                say(message, daemon.metrics_port)
            if time.monotonic() > end and message is messages[-1]:
                return
    return run


def give_up_calls(rig, connections=12):
    """Calls, each given up at once: the limit of a connection's streams counts them no
    more (CVE-2023-44487), but each takes a thread until it is worked off. They come again
    where a quick machine had worked them off before that was seen."""
    seen = []

    def threads() -> int:
        seen.append(max(resources(daemon).threads for daemon in rig.daemons))
        return seen[-1]
    for _ in range(5):
        for _ in range(connections):
            for daemon in rig.daemons:
                say(GIVEN_UP, daemon.port)
                threads()
        begun = time.monotonic()
        harness.wait_until(lambda: threads() <= KEPT_THREADS and rig.answers_again(begun),
                           timeout=HANGS, what="an end of the calls' threads")
        if max(seen) > KEPT_THREADS:
            break
    assert KEPT_THREADS < max(seen) <= MOST_THREADS


def ask_too_much(rig):
    """Messages and metadata larger than gRPC takes, which for the latter may close the
    caller's own connection."""
    for _ in range(10):
        for daemon in rig.daemons:
            with other_caller(daemon) as channel:
                call = channel.unary_unary("/limiter.RateLimiter/AllowRequest")
                for message, metadata in ((b"a" * (5 * 2**20), None), (b"", [("large", "a" * 2**20)])):
                    error = harness.error_of(call, message, timeout=10, metadata=metadata)
                    assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED,
                                            grpc.StatusCode.UNAVAILABLE)


def call_and_not_read(rig, connections=4, calls=100):
    """Calls whose answers the caller takes none of: it leaves HTTP/2 no window to send
    them, and reads nothing."""
    request = harness.message("AllowRequestRequest")(user_id="slow", path="/").SerializeToString()
    message = b"\0" + struct.pack(">I", len(request)) + request
    opening = PREFACE + frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0")
    rig.slow = []
    for daemon in rig.daemons:
        for _ in range(connections):
            connection = rig.stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
            connection.sendall(opening + b"".join(
                frame(HEADERS, 4, stream, CALL) + frame(DATA, 1, stream, message)
                for stream in range(1, 2 * calls, 2)))
            rig.slow.append(connection)


def hang_up(rig):
    for connection in rig.slow:
        connection.close()


FAULTS = [
    Fault("one of two daemons killed (SIGKILL)", kill, seconds=1, of_one=True),
    # Whoever waited for a turn when it was stopped may have waited too long when it goes on.
    Fault("one of two daemons frozen for 2 s (SIGSTOP, SIGCONT)", send(signal.SIGSTOP),
          send(signal.SIGCONT), 2, of_one=True, **UNNOTICED | {"errors": ("UNAVAILABLE",)}),
    Fault("more connections than the daemons have descriptors", exhaust_descriptors, give_descriptors, 1,
          **UNNOTICED),
    Fault("no free descriptor left in the daemons", take_all_descriptors, give_descriptors, 1, **UNNOTICED),
    Fault("1,000 connections that send nothing", connect_and_be_silent, end_silence, 1, **UNNOTICED),
    Fault("HTTP/1 garbage on both ports", garbage(HTTP1), **UNNOTICED),
    Fault("HTTP/2 garbage on both ports", garbage(HTTP2), **FLOOD),
    # It takes the processor, under a sanitizer for some seconds: some callers meet the bound
    # of threads, and some may wait for Redis too long.
    Fault("12,000 calls, each cancelled at once (HTTP/2 rapid reset)", give_up_calls,
          **FLOOD | {"errors": ("RESOURCE_EXHAUSTED", "UNAVAILABLE"), "worst": 10}),
    Fault("oversized messages and metadata", ask_too_much, **UNNOTICED),
    Fault("800 calls whose answers the client does not read", call_and_not_read, hang_up, 1, **FLOOD),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault, tmp_path, record_property):
    record_property("row", try_fault(fault, tmp_path))
