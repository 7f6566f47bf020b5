"""docker/compose.yml without Docker: its commands, settings and configurations, with real
programs on loopback, and a name server in the place of Docker's."""

import contextlib
import os
import subprocess

import grpc
import pytest
import yaml

import fleet
from fleet import NAME, HAProxy, NameServer, harness

import monitoring

DOCKER = harness.ROOT / "docker"
SERVICES = yaml.safe_load((DOCKER / "compose.yml").read_text())["services"]
# Where Prometheus looks for it.
NAME_SERVER, DNS_PORT = "127.0.53.53", 53


class ComposedBalancer(HAProxy):
    file = DOCKER / "haproxy.cfg"

    def __init__(self, these, directory, name_server):
        self.name_server = name_server
        super().__init__(these, directory)

    def configured(self, these, port, hosts):
        text = self.file.read_text()
        for word, here in (("127.0.0.11:53", f"127.0.0.1:{self.name_server.port}"),
                           ("bind :50051", f"bind 127.0.0.1:{port}"),
                           (f"{NAME}:50051", f"{NAME}:{these.port}"), ("8081", str(these.admin_port))):
            assert text.count(word) == 1
            text = text.replace(word, here)
        return text


@pytest.fixture
def composed(tmp_path):
    """The fleet as it comes up, and the balancer; `hosts` is what the name server says."""
    service = SERVICES[NAME]
    (port,) = SERVICES["balancer"]["ports"]
    assert port == "127.0.0.1:50051:50051"
    redis_server, *redis_args = SERVICES["redis"]["command"]
    assert redis_server == "redis-server"
    settings = {name: value for name, value in service["environment"].items()
                if name not in ("REDIS_URL", "ADMIN_PORT", "ADMIN_BIND")}
    assert service["environment"]["REDIS_URL"] == "redis://redis:6379"
    assert service["environment"]["ADMIN_PORT"] == "8081"
    with contextlib.ExitStack() as stack:
        these = stack.enter_context(fleet.fleet(
            tmp_path, redis_args=redis_args, instances=service["deploy"]["replicas"], **settings))
        hosts = [instance.host for instance in these.instances]
        balancer = ComposedBalancer(these, tmp_path, NameServer(stack, hosts))
        stack.callback(balancer.end)
        these.prepare(NAME)
        yield these, balancer, hosts


def test_it_answers_on_one_port_and_may_be_scaled_under_load(composed):
    these, balancer, hosts = composed
    with grpc.insecure_channel(balancer.target) as channel:
        assert fleet.allow(channel, "first").result().allowed
    with fleet.open_loop(balancer.target, NAME) as calls:
        for instance in these.instances:
            instance.await_calls([NAME])
        third = these.add()
        hosts.append(third.host)
        third.await_calls([NAME])
        # As Docker does it: SIGTERM, the end, and then it is not among the names.
        for instance in these.instances[:2]:
            assert instance.daemon.terminate() == 0
            hosts.remove(instance.host)
        third.await_calls([NAME])
    assert not fleet.failed(calls)
    assert fleet.admitted(calls) == these.taken(NAME)


def test_redis_keeps_all_and_says_no_to_more(composed):
    these, _, _ = composed
    for name, value in (("maxmemory-policy", "noeviction"), ("maxmemory", str(256 * 2**20)),
                        ("appendonly", "no"), ("save", "")):
        assert these.redis.cli("CONFIG", "GET", name).split("\n")[1:] == ([value] if value else [])


def can_have_a_resolv_conf() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0 or not can_have_a_resolv_conf(),
                    reason="needs root and mounts of its own: Prometheus asks port 53 of the name server "
                           "in /etc/resolv.conf")
def test_prometheus_finds_all_instances_by_their_name(composed, tmp_path):
    these, _, hosts = composed
    home = tmp_path / "prometheus"
    home.mkdir()
    text = (DOCKER / "prometheus.yml").read_text()
    assert "port: 2112" in text
    (home / "prometheus.yml").write_text(text.replace("2112", str(these.metrics_port)))
    (home / "rules").symlink_to(monitoring.MONITORING / "prometheus/rules")
    (home / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
    port = harness.free_port()
    with contextlib.ExitStack() as stack:
        NameServer(stack, hosts, (NAME_SERVER, DNS_PORT))
        log = stack.enter_context((home / "log").open("w"))
        process = harness.start(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             f"mount --bind {home}/resolv.conf /etc/resolv.conf && exec prometheus"
             f" --config.file={home}/prometheus.yml --storage.tsdb.path={home}/data"
             f" --web.listen-address=127.0.0.1:{port}"], log)
        stack.callback(harness.end, process)
        api = monitoring.Prometheus(port)
        harness.wait_until(api.is_ready, 30, "Prometheus to be ready")

        def ready():
            return api.query('sum(rate_limiter_ready{job="ratelimiter"})') == [len(hosts)]

        harness.wait_until(ready, 60, "all instances in Prometheus")
        hosts.append(these.add().host)
        harness.wait_until(ready, 60, "the instance that was added")
        assert {rule for group in api.ask("rules")["groups"] for rule in (one["name"] for one in group["rules"])} \
            >= set(monitoring.rules("alert"))


def test_promtool_accepts_the_configuration(tmp_path):
    (tmp_path / "prometheus.yml").write_text((DOCKER / "prometheus.yml").read_text())
    (tmp_path / "rules").symlink_to(monitoring.MONITORING / "prometheus/rules")
    told = harness.output_of("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert f"{len(monitoring.RULES)} rule files found" in told
