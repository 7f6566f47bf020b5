"""What becomes of clients' connections: none is for ever, and no call is lost with one."""

import contextlib
import socket
import struct

import grpc

import harness

# A ServerReflectionRequest with list_services.
LIST_SERVICES = bytes([0x3a, 0x00])


def services(daemon) -> bytes:
    """The answer of reflection v1, as it comes."""
    method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    [answer] = daemon.channel.stream_stream(method)(iter([LIST_SERVICES]), timeout=10)
    return answer


def test_connections_are_replaced_and_no_call_is_lost():
    with harness.daemon(STORE="memory", MAX_CONNECTION_AGE="1s") as daemon:
        seen = set()

        def three_connections():
            assert daemon.allow("caller", cost=0)["allowed"]
            seen.update(harness.connections_to(daemon.port))
            return len(seen) >= 3

        harness.wait_until(three_connections, what="a third connection")
        assert b"limiter.RateLimiter" in services(daemon), "the server's own have an age too"


def test_connections_stay_where_they_may():
    with harness.daemon(STORE="memory", MAX_CONNECTION_AGE="0") as lasting, \
            harness.daemon(STORE="memory", MAX_CONNECTION_AGE="1s") as aging:
        assert lasting.allow("caller", cost=0)["allowed"]
        (first,), seen = harness.connections_to(lasting.port), set()

        def others_were_replaced():
            assert aging.allow("caller", cost=0)["allowed"]
            seen.update(harness.connections_to(aging.port))
            return len(seen) >= 3

        harness.wait_until(others_were_replaced, what="a third connection")
        assert lasting.allow("caller", cost=0)["allowed"]
        assert harness.connections_to(lasting.port) == {first}
        assert b"limiter.RateLimiter" in services(lasting)


class Http2:
    """A client that sends and shows frames of HTTP/2 (RFC 9113) as they are, and answers
    none by itself."""

    SETTINGS, PING, GOAWAY = 4, 6, 7
    ACK, MAX_CONCURRENT_STREAMS, ENHANCE_YOUR_CALM = 1, 3, 11

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.frames = self.socket.makefile("rb")
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(self.SETTINGS)

    def send(self, kind, payload=b"", flags=0):
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4)
        self.socket.sendall(head + payload)

    def receive(self, kind, flags=0) -> bytes:
        """The payload of the next frame of that kind."""
        while True:
            head = self.frames.read(9)
            assert len(head) == 9, "the connection was closed"
            payload = self.frames.read(int.from_bytes(head[:3], "big"))
            if (head[3], head[4] & self.ACK) == (kind, flags):
                return payload

    def close(self):
        self.frames.close()
        self.socket.close()


@contextlib.contextmanager
def http2(**settings):
    with harness.daemon(STORE="memory", **settings) as daemon, \
            contextlib.closing(Http2(daemon.port)) as client:
        yield client


def test_calls_at_once_are_bounded():
    for settings, most in (({}, 1000), ({"MAX_CONCURRENT_STREAMS": 7}, 7)):
        with http2(**settings) as client:
            told = dict(struct.iter_unpack(">HI", client.receive(Http2.SETTINGS)))
            assert told[Http2.MAX_CONCURRENT_STREAMS] == most


def test_a_silent_client_is_pinged():
    with http2(KEEPALIVE_TIME="1s") as client:
        for _ in range(2):
            client.send(Http2.PING, client.receive(Http2.PING), Http2.ACK)


def test_a_client_that_pings_too_often_is_sent_away():
    # Two are forgiven, and the first is in time.
    with http2(KEEPALIVE_MIN_TIME="1h") as client:
        for _ in range(4):
            client.send(Http2.PING, bytes(8))
        goaway = client.receive(Http2.GOAWAY)
        _, error = struct.unpack(">II", goaway[:8])
        assert error == Http2.ENHANCE_YOUR_CALM and goaway[8:] == b"too_many_pings"
    with http2(KEEPALIVE_MIN_TIME="0") as client:
        for _ in range(20):
            client.send(Http2.PING, bytes(8))
            client.receive(Http2.PING, Http2.ACK)


def test_a_stream_outlives_its_connection_by_the_grace_alone():
    # Of the default, 30 s, nothing would be seen in time.
    with harness.daemon(STORE="memory", MAX_CONNECTION_AGE="1s",
                        MAX_CONNECTION_AGE_GRACE="1s") as daemon:
        health = harness.proto("health/v1/health").HealthCheckRequest().SerializeToString()
        watch = daemon.channel.unary_stream("/grpc.health.v1.Health/Watch")(health, timeout=20)
        error = harness.error_of(lambda: list(watch))
        assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_a_connection_that_says_nothing_is_closed():
    with harness.daemon(STORE="memory") as daemon, \
            socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as silent:
        while silent.recv(4096):  # The server's own first words, and then the end.
            pass
        assert daemon.allow("caller", cost=0)["allowed"]


# --- Metadata ---


def test_metadata_is_bounded_and_told_apart_from_overload():
    request = harness.message("AllowRequestRequest")(user_id="caller", cost=0).SerializeToString()

    def allow(daemon, size):
        method = daemon.channel.unary_unary("/limiter.RateLimiter/AllowRequest")
        return method(request, metadata=[("x-filler", "x" * size)], timeout=10)

    for settings, most in (({}, 8192), ({"MAX_METADATA_SIZE": 65536}, 65536)):
        with harness.daemon(STORE="memory", **settings) as daemon:
            assert allow(daemon, most - 1024)
            error = harness.error_of(allow, daemon, most + 1)
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "metadata" in error.details()
            assert "grpc-status-details-bin" not in dict(error.trailing_metadata()), "no RetryInfo"
