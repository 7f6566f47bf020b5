"""TLS to the balancers, and from them to the daemons, by the lines that their files have for it
and the command of docs/operate/operations.md that puts them in force."""

import contextlib
import re
import signal

import grpc
import pytest

import fleet
from fleet import ALL_BALANCERS, HAProxy, harness

# By which certificate each daemon is known: as it should be, by another name, and by another CA.
RIGHT, NAMED_OTHERWISE, OF_ANOTHER_CA = "localhost", "elsewhere", "stranger"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = harness.Certificates(tmp_path_factory.mktemp("certificates"))
    for name in ("localhost", "client"):
        (made.folder / f"{name}.pem").write_bytes(made.pem(f"{name}.crt") + made.pem(f"{name}.key"))
    return made


def with_tls(certificates, ca="ca.crt", name="localhost"):
    """How a file is made one with TLS, here by the test's own certificates: of the CA and the
    name of which the daemons' are to be."""
    page = (harness.ROOT / "docs/operate/operations.md").read_text()
    [script] = re.findall("sed -i '(.*#TLS.*)' ", page)

    def edit(config):
        config = harness.output_of("sed", script, input=config)
        for written, here in {"/etc/ratelimiter/server": certificates.path("localhost"),
                              "/etc/ratelimiter/client": certificates.path("client"),
                              "/etc/ratelimiter/ca.crt": certificates.path(ca),
                              "limiter.example.com": name}.items():
            assert written in config
            config = config.replace(written, here)
        assert "/etc/ratelimiter" not in config
        return config

    return edit


@contextlib.contextmanager
def daemons(certificates, directory, **settings):
    """One by each certificate; all ask their callers for one."""
    with fleet.fleet(directory, instances=0, ADMIN_TLS="on", **settings) as these:
        for name in (RIGHT, NAMED_OTHERWISE, OF_ANOTHER_CA):
            these.add(**certificates.server(name, client_ca="ca.crt"))
        yield these


@pytest.fixture(scope="module")
def these(certificates, tmp_path_factory):
    with daemons(certificates, tmp_path_factory.mktemp("fleet")) as running:
        yield running


@contextlib.contextmanager
def running(kind, these, directory, edit, certificates):
    balancer = kind(these, directory, edit, credentials=certificates.client())
    try:
        yield balancer
    finally:
        balancer.end()


@ALL_BALANCERS
@pytest.mark.parametrize("called, ca, name", [
    (RIGHT, "ca.crt", "localhost"), (NAMED_OTHERWISE, "ca.crt", "elsewhere.test"),
    (OF_ANOTHER_CA, "other-ca.crt", "localhost")])
def test_calls_go_over_tls_to_who_has_the_name_by_the_ca(kind, called, ca, name, these, certificates, tmp_path):
    user = f"{kind.name} to {called}"
    with running(kind, these, tmp_path, with_tls(certificates, ca, name), certificates) as balancer:
        with balancer.channel() as channel:
            for _ in range(20):
                # Until it knows the others some may fail, but none comes to them.
                harness.wait_until(lambda: not fleet.allow(channel, user).exception(), 30, "an answer")
        with grpc.insecure_channel(balancer.target) as channel:
            assert fleet.allow(channel, user).exception().code() == grpc.StatusCode.UNAVAILABLE
    counts = {name: instance.calls(user) for name, instance in
              zip((RIGHT, NAMED_OTHERWISE, OF_ANOTHER_CA), these.instances)}
    assert counts.pop(called) >= 20
    assert not any(counts.values())


def await_down(balancer, server, why=""):
    harness.wait_until(lambda: f"ratelimiter/{server} is DOWN, reason: {why}" in balancer.log_text(),
                       30, f"{server} to be down by {why}")


def test_haproxy_asks_for_readiness_over_tls(certificates, tmp_path):
    with daemons(certificates, tmp_path, DRAIN_TIME="1h") as these, \
            running(HAProxy, these, tmp_path, with_tls(certificates), certificates) as balancer:
        for server in ("two", "three"):
            await_down(balancer, server, "Layer6 invalid response")
        harness.wait_until(balancer.answers, 30, "an answer")
        these.instances[0].signal(signal.SIGTERM)
        await_down(balancer, "one")
