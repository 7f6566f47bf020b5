"""A call whose answer is lost has taken its token: it is not sent again, and shows that it
would be paid for twice where it is."""

import contextlib
import socket
import threading

import grpc
import pytest

import fleet
from fleet import ALL_FRONTS, FIXED, MARKED_FRONTS, ClientSide, harness

USER = b"lost-answer"
# What makes each send it again. nginx cannot be made to: it has not kept the message.
WRONG = {
    "HAProxy": ("retry-on conn-failure", "retry-on all-retryable-errors"),
    "Envoy": ("connect-failure,", "reset,"),
    "client side": ('"method": "GetUsage"', '"method": "AllowRequest"'),
}


class AnswersLost:
    """A way to each instance that ends the connection in place of an answer to USER, so
    often as `left` says."""

    def __init__(self, stack, these):
        self.left = 0
        self.hosts = []
        for instance in these.instances:
            port = stack.enter_context(harness.fake_server(
                lambda connection, to=instance: self._carry(connection, to), instance.host))
            self.hosts.append(f"{instance.host}:{port}")

    def _carry(self, client, instance):
        server = socket.create_connection(instance.address.split(":"))
        asked = threading.Event()

        def requests():
            seen = b""
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    seen = seen[-len(USER):] + data
                    if USER in seen:
                        asked.set()
                    server.sendall(data)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

        reader = threading.Thread(target=requests)
        reader.start()
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                # The limit's name is in every answer, and in nothing else.
                if asked.is_set() and b"fixed" in data and self.left > 0:
                    self.left -= 1
                    break
                client.sendall(data)
        for connection in (client, server):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        reader.join()
        server.close()


@pytest.fixture(scope="module")
def these(tmp_path_factory):
    with fleet.fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@contextlib.contextmanager
def front(kind, these, directory, edit=lambda config: config):
    with contextlib.ExitStack() as stack:
        lost = AnswersLost(stack, these)
        running = kind(these, directory, edit, lost.hosts)
        stack.callback(running.end)
        yield lost, stack.enter_context(grpc.insecure_channel(running.target, options=running.options))


def taken_by_one_call(these, lost, channel) -> int:
    """What a call of USER takes whose answers are lost, all of them."""
    these.redis.cli("DEL", f"rl:1:fixed:{{{USER.decode()}}}")
    lost.left = 10
    assert fleet.allow(channel, USER.decode()).exception().code() == grpc.StatusCode.UNAVAILABLE
    lost.left = 0
    return FIXED - these.level(USER.decode(), "fixed").tokens


@ALL_FRONTS
def test_a_call_that_was_sent_is_not_sent_again(kind, these, tmp_path):
    with front(kind, these, tmp_path) as (lost, channel):
        assert taken_by_one_call(these, lost, channel) == 1


@pytest.mark.parametrize("kind", [kind for kind in MARKED_FRONTS if kind.id in WRONG])
def test_where_it_is_sent_again_it_is_paid_for_again(kind, these, tmp_path):
    def spoil(config):
        right, wrong = WRONG[kind.name]
        assert config.count(right) == 1
        return config.replace(right, wrong)

    with front(kind, these, tmp_path, spoil) as (lost, channel):
        assert taken_by_one_call(these, lost, channel) > 1


def test_callers_repeat_what_takes_nothing(these, tmp_path):
    with front(ClientSide, these, tmp_path) as (lost, channel):
        lost.left = 1
        request = harness.message("GetUsageRequest")(user_id=USER.decode(), path="/fixed")
        channel.unary_unary("/limiter.RateLimiter/GetUsage")(request.SerializeToString(), timeout=20)
        assert lost.left == 0
