"""What becomes of clients' connections: none is for ever, and no call is lost with one."""

import pathlib
import socket

import harness

ESTABLISHED = "01"
# A ServerReflectionRequest with list_services.
LIST_SERVICES = bytes([0x3a, 0x00])


def clients_of(port: int) -> set:
    """The ports of the clients that are connected to one of this machine."""
    def port_of(address: str) -> int:
        return int(address.split(":")[1], 16)

    rows = [line.split() for name in ("tcp", "tcp6")
            for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]]
    return {port_of(local) for _, local, remote, state, *_ in rows
            if state == ESTABLISHED and port_of(remote) == port}


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
            seen.update(clients_of(daemon.port))
            return len(seen) >= 3

        harness.wait_until(three_connections, what="a third connection")
        assert b"limiter.RateLimiter" in services(daemon), "the server's own have an age too"


def test_connections_stay_where_they_may():
    with harness.daemon(STORE="memory", MAX_CONNECTION_AGE="0") as daemon:
        assert daemon.allow("caller", cost=0)["allowed"]
        assert b"limiter.RateLimiter" in services(daemon)


def test_a_connection_that_says_nothing_is_closed():
    with harness.daemon(STORE="memory") as daemon, \
            socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as silent:
        while silent.recv(4096):  # The server's own first words, and then the end.
            pass
        assert daemon.allow("caller", cost=0)["allowed"]
