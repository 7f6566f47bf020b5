"""Deadlines as clients send them, as the bytes of HTTP/2."""

import contextlib
import socket
import struct

import pytest

import harness


def literal(name: str, value: str) -> bytes:
    """A header of HPACK (RFC 7541), neither indexed nor compressed; both below 127 bytes."""
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def answer(port: int, timeout: str) -> bytes:
    """All that comes back for one AllowRequest with that grpc-timeout, up to the stream's end."""
    data, headers, settings, end_stream, end_headers = 0, 1, 4, 1, 4
    user = b"\x0a\x04user"
    call = b"".join(literal(*header) for header in (
        (":method", "POST"), (":scheme", "http"), (":path", "/limiter.RateLimiter/AllowRequest"),
        (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers"),
        ("grpc-timeout", timeout)))
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings, 0, 0, b"") +
                           frame(headers, end_headers, 1, call) +
                           frame(data, end_stream, 1, b"\0" + struct.pack(">I", len(user)) + user))
        payloads = b""
        with connection.makefile("rb") as stream:
            while True:
                head = stream.read(9)
                assert len(head) == 9, "the connection was closed"
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if int.from_bytes(head[5:], "big") != 1:
                    continue
                payloads += payload
                if head[3] in (data, headers) and head[4] & end_stream:
                    return payloads


@pytest.fixture(scope="module")
def daemon():
    with harness.redis_server() as redis, harness.daemon(REDIS_URL=redis.url) as running:
        yield running


# What contexts of Go without an end in sight send, and the longest that the protocol has.
@pytest.mark.parametrize("timeout", ["2562048H", "2562047H", "99999999H", "99999999S", "10S"])
def test_a_long_deadline_has_not_passed(daemon, timeout):
    came = answer(daemon.port, timeout)
    assert b"Request allowed" in came or b"exceeded: cost 1" in came, came
