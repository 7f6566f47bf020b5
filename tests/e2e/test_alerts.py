"""Each alert made to fire by its real cause, and to end when that ends: all at once, each
as a job of one real Prometheus, by rules whose durations are divided by 60."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import sys
import threading
import time

import grpc
import pytest

import harness
import monitoring

sys.path.insert(0, str(harness.ROOT / "tests" / "faults"))
import proxy

# In seconds: between two calls of a user, and what a busy machine may take.
BEAT, PATIENCE = 0.1, 120
# The same of a scene in which single calls that a busy machine holds up must not count.
FAST = 0.01


class Scene:
    """What one alert's cause is tried on: servers and callers of its own."""

    def __init__(self, stack: contextlib.ExitStack, directory: pathlib.Path):
        self.stack, self.directory = stack, directory
        self.daemons = []

    def redis(self) -> harness.Redis:
        return self.stack.enter_context(harness.redis_server())

    def slow_redis(self) -> proxy.Proxy:
        return self.stack.enter_context(proxy.proxy(self.redis().port))

    def daemon(self, beat=BEAT, **settings) -> harness.Daemon:
        """One that is called for two users, who may."""
        limit = {} if "LIMITS_FILE" in settings else {"CAPACITY": 1000, "REFILL_INTERVAL": "10ms"}
        daemon = self.stack.enter_context(harness.daemon(**limit, **settings))
        self.daemons.append(daemon)
        for user in ("alice", "bob"):
            self.call(daemon, user, beat)
        return daemon

    def call(self, daemon, user, beat=BEAT) -> threading.Event:
        """Has a caller call until that is set, or the scene is over."""
        enough = threading.Event()

        def run():
            while not enough.wait(beat):
                with contextlib.suppress(grpc.RpcError):
                    daemon.allow(user)

        caller = threading.Thread(target=run)
        caller.start()
        self.stack.callback(caller.join)
        self.stack.callback(enough.set)
        return enough


# --- Causes, by the alert. Each sets its scene, brings its cause about, and undoes it ---


def instance_down(scene):
    ports = {"PORT": harness.free_port(), "METRICS_PORT": harness.free_port()}
    scene.daemon(STORE="memory")
    killed = scene.daemon(STORE="memory", **ports)
    yield
    harness.end(killed.process)
    yield
    scene.daemon(STORE="memory", **ports)


def no_instance_ready(scene):
    redis = scene.redis()
    for _ in range(2):
        scene.daemon(REDIS_URL=redis.url)
    yield
    redis.kill()
    yield
    redis.start()


def breaker_open(scene):
    redis = scene.redis()
    scene.daemon(REDIS_URL=redis.url, FAIL_MODE="closed", REDIS_TIMEOUT="500ms")
    yield
    redis.process.send_signal(signal.SIGSTOP)
    yield
    redis.process.send_signal(signal.SIGCONT)


def undecided(scene):
    redis = scene.redis()
    scene.daemon(REDIS_URL=redis.url)
    yield
    redis.cli("REPLICAOF", "127.0.0.1", str(harness.free_port()))
    yield
    redis.cli("REPLICAOF", "NO", "ONE")


def degraded(scene):
    redis = scene.redis()
    scene.daemon(REDIS_URL=redis.url, FAIL_MODE="open")
    yield
    redis.kill()
    yield
    redis.start()


def redis_errors(scene):
    redis = scene.redis()
    scene.daemon(REDIS_URL=redis.url)
    yield
    redis.cli("CONFIG", "SET", "maxmemory", "1")
    yield
    redis.cli("CONFIG", "SET", "maxmemory", "0")


def slow(scene):
    way = scene.slow_redis()
    scene.daemon(FAST, REDIS_URL=f"redis://127.0.0.1:{way.port}")
    yield
    way.switch(proxy.FROM_REDIS, proxy.delay(0.2))
    yield
    way.switch(proxy.FROM_REDIS, proxy.forward)


def refused_share_high(scene):
    limits = scene.directory / "limits.yaml"
    limits.write_text("limits: [{name: calls, capacity: 1000, refill: 1 per 10ms}]")
    daemon = scene.daemon(STORE="memory", LIMITS_FILE=limits)
    yield
    limits.write_text("limits: [{name: calls, capacity: 1, refill: 1 per 1s}]")
    daemon.process.send_signal(signal.SIGHUP)
    yield
    limits.write_text("limits: [{name: calls, capacity: 1000, refill: 1 per 10ms}]")
    daemon.process.send_signal(signal.SIGHUP)


def overload(scene):
    way = scene.slow_redis()
    daemon = scene.daemon(REDIS_URL=f"redis://127.0.0.1:{way.port}", MAX_IN_FLIGHT=2)
    yield
    way.switch(proxy.FROM_REDIS, proxy.delay(0.5))
    more = [scene.call(daemon, user) for user in ("carol", "dave")]
    yield
    for caller in more:
        caller.set()
    way.switch(proxy.FROM_REDIS, proxy.forward)


def reload_failed(scene):
    limits = scene.directory / "limits.yaml"
    good = "limits: [{name: calls, capacity: 5, refill: 1 per 2s}]"
    limits.write_text(good)
    daemon = scene.daemon(STORE="memory", LIMITS_FILE=limits)
    yield
    limits.write_text(good.replace("capacity: 5", "capacity: five"))
    daemon.process.send_signal(signal.SIGHUP)
    yield
    limits.write_text(good)
    daemon.process.send_signal(signal.SIGHUP)


def certificate_expires(scene, last="ending"):
    certificates = harness.Certificates(scene.directory)
    served = certificates.server()
    daemon = scene.daemon(**served, credentials=certificates.client())
    for name in (last, "renewed"):
        yield
        for file in (served["TLS_CERT"], served["TLS_KEY"]):
            os.replace(certificates.path(name + pathlib.Path(file).suffix), file)
        daemon.process.send_signal(signal.SIGHUP)


def certificate_expired(scene):
    return certificate_expires(scene, "expired")


def eviction_possible(scene):
    redis = scene.redis()
    scene.daemon(REDIS_URL=redis.url)
    redis.cli("CONFIG", "SET", "maxmemory", "1gb")
    yield
    for policy in ("allkeys-lru", "noeviction"):
        redis.cli("CONFIG", "SET", "maxmemory-policy", policy)
        redis.cli("CLIENT", "KILL", "TYPE", "normal")  # It is asked on connecting.
        yield


# The cause of each alert, and which others it may bring.
CAUSES = {
    "RateLimiterInstanceDown": (instance_down, set()),
    "RateLimiterNoInstanceReady": (
        no_instance_ready, {"RateLimiterBreakerOpen", "RateLimiterUndecided", "RateLimiterRedisErrors"}),
    "RateLimiterBreakerOpen": (breaker_open, {"RateLimiterDegraded", "RateLimiterRedisErrors"}),
    "RateLimiterUndecided": (
        undecided, {"RateLimiterNoInstanceReady", "RateLimiterBreakerOpen", "RateLimiterRedisErrors"}),
    "RateLimiterDegraded": (degraded, {"RateLimiterBreakerOpen", "RateLimiterRedisErrors"}),
    "RateLimiterRedisErrors": (
        redis_errors, {"RateLimiterNoInstanceReady", "RateLimiterBreakerOpen", "RateLimiterUndecided"}),
    "RateLimiterSlow": (slow, set()),
    "RateLimiterRefusedShareHigh": (refused_share_high, set()),
    "RateLimiterOverload": (overload, {"RateLimiterSlow"}),
    "RateLimiterReloadFailed": (reload_failed, set()),
    "RateLimiterCertificateExpires": (certificate_expires, set()),
    "RateLimiterCertificateExpired": (certificate_expired, set()),
    # Calls on the connections that it kills fail; in a sixtieth of the time two are a large share.
    "RateLimiterEvictionPossible": (eviction_possible, {"RateLimiterRedisErrors"}),
}


def job_of(alert: str) -> str:
    return f"ratelimiter-{alert}"


class Watch:
    """Which alerts fire, by job, asked for all who wait at once."""

    def __init__(self, prometheus):
        self.prometheus = prometheus
        self.now = {}  # By (job, alert), one of the alerts that fire.
        self.ever = set()  # Pairs of job and alert.
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.2):
            self.now = {(alert["labels"]["job"], alert["labels"]["alertname"]): alert
                        for alert in self.prometheus.alerts() if alert["state"] == "firing"}
            self.ever |= set(self.now)

    def is_usual_known(self, alert) -> bool:
        """Whether there has been traffic for so long that what is usual of it is known."""
        return bool(self.prometheus.query(f'job:rate_limiter_refused:alert_above{{job="{job_of(alert)}"}}'))


def play(alert: str, steps, watch: Watch) -> dict:
    """Brings the cause about and undoes it; the alert as it fired, and how long it took."""
    key = (job_of(alert), alert)
    harness.wait_until(lambda: watch.is_usual_known(alert), PATIENCE, "what is usual")
    harness.wait_until(lambda: key not in watch.now, PATIENCE, f"{alert} not to fire yet")
    begun = time.monotonic()
    next(steps)
    fired = harness.wait_until(lambda: watch.now.get(key), PATIENCE, f"{alert}, firing")
    fires = time.monotonic()
    next(steps, None)
    harness.wait_until(lambda: key not in watch.now, PATIENCE, f"the end of {alert}")
    return fired | {"fired after": fires - begun, "ended after": time.monotonic() - fires}


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    """What play() gives of each alert, as futures; and the watch."""
    with contextlib.ExitStack() as stack:
        scenes = {alert: Scene(stack, tmp_path_factory.mktemp(alert)) for alert in CAUSES}
        steps = {alert: cause(scenes[alert]) for alert, (cause, _) in CAUSES.items()}
        for alert in CAUSES:
            next(steps[alert])
        jobs = {job_of(alert): [daemon.metrics_port for daemon in scene.daemons]
                for alert, scene in scenes.items()}
        watch = Watch(stack.enter_context(
            monitoring.prometheus(tmp_path_factory.mktemp("prometheus"), jobs)))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(CAUSES) + 1))
        stack.callback(watch.over.set)
        watching = pool.submit(watch.run)
        yield {alert: pool.submit(play, alert, steps[alert], watch) for alert in CAUSES}, watch
        watch.over.set()
        watching.result()


def test_each_alert_has_a_cause():
    assert set(CAUSES) == set(monitoring.rules("alert"))


@pytest.mark.parametrize("alert", CAUSES)
def test_alert_fires_by_its_cause_and_ends(alert, plays):
    fired = plays[0][alert].result()
    print(f"{alert} fired {fired['fired after']:.1f} s after its cause, ended {fired['ended after']:.1f} s "
          f"after that: {fired['annotations']}")
    rule = monitoring.rules("alert")[alert]
    assert fired["labels"]["severity"] == rule["labels"]["severity"]
    for text in fired["annotations"].values():
        assert text and "error expanding template" not in text


@pytest.mark.parametrize("alert", CAUSES)
def test_a_cause_brings_no_other_alerts_than_are_told(alert, plays):
    futures, watch = plays
    futures[alert].result()
    others = {name for job, name in watch.ever if job == job_of(alert)} - {alert}
    # Whose calls take long on a machine that is busy.
    assert others <= CAUSES[alert][1] | {"RateLimiterSlow"}
