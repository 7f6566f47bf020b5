"""Three daemons over one Redis, and what stands before them: nginx, HAProxy and Envoy with
the configurations of deploy/, on loopback, or the callers themselves."""

import collections
import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness

DEPLOY = harness.ROOT / "deploy"
PATH = f"{harness.ROOT}/build/tools/venv/bin:{os.environ['PATH']}:/usr/sbin"
INSTANCES = 3
# One that is used up, and one that goes on: all its capacity but a few tokens is taken
# before, so that it is never full and all that refill brings is there to be counted.
FIXED, FLOW = 500, 100_000
FLOW_RATE = 20  # Tokens a second.
LIMITS = f"""
limits:
  - {{name: fixed, path: /fixed, capacity: {FIXED}, refill: 1 per 30d}}
  - {{name: flow, path: /flow, capacity: {FLOW}, refill: {FLOW_RATE} per 1s}}
"""
# All is on loopback, and whoever has a proxy may have excepted 127.0.0.1 alone.
for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

# What docs/operate/operations.md has callers set besides the service config.
CLIENT_OPTIONS = [("grpc.keepalive_time_ms", 15_000), ("grpc.keepalive_timeout_ms", 2_000),
                  ("grpc.max_reconnect_backoff_ms", 5_000)]


def service_config() -> str:
    """The one of docs/operate/operations.md."""
    page = (harness.ROOT / "docs/operate/operations.md").read_text()
    return re.search(r"^### By the callers$.*?```json\n(.*?)```", page, re.DOTALL | re.MULTILINE)[1]


class Instance:
    """One daemon at an address of its own, which the next one there has as well."""

    def __init__(self, fleet, host, **settings):
        self.host, self.address = host, f"{host}:{fleet.port}"
        self.settings = {
            "BIND": host, "PORT": fleet.port, "ADMIN_BIND": host, "ADMIN_PORT": fleet.admin_port,
            "METRICS_BIND": host, "METRICS_PORT": fleet.metrics_port,
            "REDIS_URL": fleet.redis.url, "LIMITS_FILE": fleet.limits, "DRAIN_TIME": None} | settings
        self.daemon = None
        self.start()

    def start(self):
        self.daemon = harness.Daemon(**self.settings)
        harness.wait_until(self.is_ready, what="/readyz")

    def is_ready(self) -> bool:
        try:
            scheme = "https" if self.settings.get("ADMIN_TLS") == "on" else "http"
            url = f"{scheme}://{self.host}:{self.daemon.admin_port}/readyz"
            request = urllib.request.Request(url, headers={"Host": "localhost"})
            context = ssl._create_unverified_context()
            return urllib.request.urlopen(request, timeout=5, context=context).status == 200
        except OSError:
            return False

    def calls(self, user) -> int:
        """How many requests of a user this process has decided."""
        return self.daemon.total("rate_limiter_requests_total", user=user)

    def await_calls(self, users, count=10, timeout=60):
        """Waits until it has decided so many more of each."""
        begin = {user: self.calls(user) for user in users}
        harness.wait_until(lambda: all(self.calls(user) >= begin[user] + count for user in users),
                           timeout, f"calls of {self.host}")

    def signal(self, number):
        self.daemon.process.send_signal(number)

    def end(self):
        self.daemon.channel.close()
        harness.end(self.daemon.process)
        self.daemon.log.close()


Level = collections.namedtuple("Level", "tokens time_us part")


class Fleet:
    def __init__(self, stack, directory, redis_args=(), instances=INSTANCES, **settings):
        self.redis = stack.enter_context(harness.redis_server(*redis_args))
        self.limits = directory / "limits.yaml"
        self.limits.write_text(LIMITS)
        self.port, self.admin_port, self.metrics_port = (harness.free_port() for _ in range(3))
        self.stack, self.settings = stack, settings
        self.instances = []
        for _ in range(instances):
            self.add()
        self.before = {}

    def add(self, **settings) -> Instance:
        instance = Instance(self, f"127.0.0.1{len(self.instances) + 1}", **self.settings | settings)
        self.stack.callback(instance.end)
        self.instances.append(instance)
        return instance

    def prepare(self, user):
        """From here on what the user takes is counted."""
        with grpc.insecure_channel(self.instances[0].address) as channel:
            assert allow(channel, user, "/flow", cost=FLOW - 5).result().allowed
        self.before[user] = self.level(user, "flow")

    def level(self, user, limit) -> Level:
        words = self.redis.cli("HGETALL", f"rl:1:{limit}:{{{user}}}").split("\n")
        assert words[0::2][:2] == ["tokens", "time"]
        return Level(*map(int, words[1::2]))

    def taken(self, user) -> dict:
        """What Redis says that a user has taken, in tokens, by limit."""
        now, before, token = self.level(user, "flow"), self.before[user], 1_000_000
        # A token is 1s in parts, of which FLOW_RATE come each microsecond.
        earned = (now.time_us - before.time_us) * FLOW_RATE + before.part - now.part
        assert earned % token == 0 and before.tokens < 10
        return {"flow": before.tokens + earned // token - now.tokens,
                "fixed": FIXED - self.level(user, "fixed").tokens}


@contextlib.contextmanager
def fleet(directory, **options):
    with contextlib.ExitStack() as stack:
        yield Fleet(stack, directory, **options)


# --- What stands before them ---


def on_loopback(config: str, fleet: Fleet, port: int, hosts) -> str:
    """A configuration of deploy/ with the ports of the fleet, and in place of its addresses
    `hosts`, HOST:PORT each."""
    for number, address in enumerate(hosts, 1):
        host, own_port = address.split(":")
        config, count = re.subn(rf"10\.0\.0\.1{number}(:|, port_value: )50051",
                                rf"{host}\g<1>{own_port}", config)
        assert count == 1
    config = config.replace("8081", str(fleet.admin_port))
    config, count = re.subn(r"(listen |bind :|address: 0\.0\.0\.0, port_value: )50051",
                            lambda found: listen_on(found[1], port), config)
    assert count and "50051" not in config and "10.0.0." not in config
    return config


def listen_on(words: str, port: int) -> str:
    if "0.0.0.0" in words:
        return words.replace("0.0.0.0", "127.0.0.1") + str(port)
    return f"{words.rstrip(':')}127.0.0.1:{port}"


class ClientSide:
    """Nothing: the callers themselves spread their calls, as docs/operate/operations.md says."""

    name, program, options = "client side", True, ()

    def __init__(self, fleet, directory=None, edit=lambda config: config, hosts=None):
        hosts = hosts or [instance.address for instance in fleet.instances]
        self.target = f"ipv4:{','.join(hosts)}"
        self.options = [("grpc.service_config", edit(service_config())), *CLIENT_OPTIONS]

    def take_out(self, instance):
        """What is done here before an instance gets SIGTERM: most see that it drains."""

    def put_back(self, instance):
        """What is done once another is there in its place."""

    def end(self):
        pass


class Balancer(ClientSide):
    """One that runs with the configuration of deploy/, after `edit`. `credentials` are those of
    its callers, who without them have no TLS."""

    def __init__(self, fleet, directory, edit=lambda config: config, hosts=None, credentials=None):
        self.options, self.credentials = (), credentials
        port = harness.free_port()
        self.target = f"127.0.0.1:{port}"
        self.directory = directory / self.name
        self.directory.mkdir()
        self.config = self.directory / self.file.name
        hosts = hosts or [instance.address for instance in fleet.instances]
        self.config.write_text(edit(self.configured(fleet, port, hosts)))
        self.log = (self.directory / "log").open("w")
        self.process = harness.start(self.command(), self.log)
        try:
            harness.wait_until(self.answers, 30, f"{self.name} to answer")
        except AssertionError as error:
            self.end()
            raise AssertionError(self.log_text()) from error

    def configured(self, fleet, port, hosts) -> str:
        return on_loopback(self.file.read_text(), fleet, port, hosts)

    def channel(self) -> grpc.Channel:
        if self.credentials:
            return grpc.secure_channel(self.target, self.credentials)
        return grpc.insecure_channel(self.target)

    def log_text(self) -> str:
        return (self.directory / "log").read_text()

    def answers(self) -> bool:
        assert self.process.poll() is None
        with self.channel() as channel:
            return allow(channel, "nobody", cost=0, timeout=1).exception() is None

    def end(self):
        # SIGTERM, for nginx's workers outlive a master that was killed.
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        harness.end(self.process)
        self.log.close()


class Nginx(Balancer):
    name, file = "nginx", DEPLOY / "nginx/nginx.conf"
    program = shutil.which("nginx", path=PATH)

    def command(self):
        # Debian's folders of temporary files are there only once its service was started.
        own = "".join(f"{kind}_temp_path {self.directory}/{kind};\n" for kind in
                      ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.config.write_text(self.config.read_text().replace("http {\n", "http {\n" + own, 1))
        user = "user root; " if os.geteuid() == 0 else ""
        return [self.program, "-p", self.directory, "-c", self.config, "-e", "stderr", "-g",
                f"{user}daemon off; pid {self.directory}/pid; error_log stderr;"]

    def _edit(self, pattern, replacement):
        text, count = re.subn(pattern, replacement, self.config.read_text())
        assert count == 1
        self.config.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def take_out(self, instance):
        self._edit(f"({instance.address} .*);", r"\1 down;")

    def put_back(self, instance):
        self._edit(f"({instance.address} .*) down;", r"\1;")


class HAProxy(Balancer):
    name, file = "HAProxy", DEPLOY / "haproxy/haproxy.cfg"
    program = shutil.which("haproxy", path=PATH)

    def command(self):
        return [self.program, "-db", "-f", self.config]


class Envoy(Balancer):
    name, file = "Envoy", DEPLOY / "envoy/envoy.yaml"
    program = shutil.which("envoy", path=PATH)

    def command(self):
        return [self.program, "-c", self.config, "--disable-hot-restart", "--concurrency", "2"]


FRONTS = [Nginx, HAProxy, Envoy, ClientSide]
MARKED_FRONTS = [
    pytest.param(kind, id=kind.name, marks=pytest.mark.skipif(
        kind is Envoy and Envoy.program is None,
        reason="needs Envoy, which ./dev installs where PyPI has it for this machine"))
    for kind in FRONTS]
ALL_FRONTS = pytest.mark.parametrize("kind", MARKED_FRONTS)
ALL_BALANCERS = pytest.mark.parametrize(
    "kind", [kind for kind in MARKED_FRONTS if kind.id != ClientSide.name])


@contextlib.contextmanager
def fronts(fleet, directory, edit_of=lambda kind: lambda config: config):
    """All that can be had, before the same fleet at once, by name. Each is a user's."""
    with contextlib.ExitStack() as stack:
        found = {}
        for kind in FRONTS:
            if kind.program is not None:
                found[kind.name] = front = kind(fleet, directory, edit_of(kind))
                stack.callback(front.end)
                fleet.prepare(kind.name)
        yield found


# --- Names ---

NAME = "ratelimiter"


class NameServer:
    """Answers for NAME with the addresses in `hosts`, as they are at that time, and for no
    other."""

    def __init__(self, stack, hosts, address=("127.0.0.1", 0)):
        def answer(query: bytes) -> bytes:
            end = query.index(b"\0", 12)
            name = query[12:end]
            kind = query[end + 1:end + 3]
            known = name == bytes([len(NAME)]) + NAME.encode()
            found = [bytes(map(int, host.split("."))) for host in hosts] if known and kind == b"\0\1" else []
            flags = 0x8580 if known else 0x8583  # An answer, or that there is no such name.
            header = query[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
            records = [b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 1, 4) + host for host in found]
            return header + query[12:end + 5] + b"".join(records)

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                query, server = self.request
                server.sendto(answer(query), self.client_address)

        server = stack.enter_context(socketserver.ThreadingUDPServer(address, Handler))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        self.port = server.server_address[1]


# --- Callers ---

METHOD = "/limiter.RateLimiter/AllowRequest"


def allow(channel, user, path="/fixed", cost=1, timeout=20):
    """An AllowRequest on its way."""
    call = channel.unary_unary(METHOD, lambda request: request.SerializeToString(),
                               harness.message("AllowRequestResponse").FromString)
    request = harness.message("AllowRequestRequest")(user_id=user, path=path, cost=cost)
    return call.future(request, timeout=timeout)


class Call:
    """When it began, and how it ended: its status code, and whether it was allowed."""

    def __init__(self, limit):
        self.limit, self.begun = limit, time.monotonic()
        self.ended = self.code = self.details = None
        self.allowed = False

    def end(self, future):
        error = future.exception()
        self.code = grpc.StatusCode.OK if error is None else error.code()
        self.details = "" if error is None else error.details()
        self.allowed = error is None and future.result().allowed
        self.ended = time.monotonic()

    def __repr__(self):
        return f"{self.limit}: {self.code} {self.details} after {self.ended - self.begun:.3f} s"


@contextlib.contextmanager
def open_loop(target, user, rate=100, options=(), timeout=20):
    """Sends `rate` calls a second, each when it is due, whatever becomes of the others, to
    the limits in turns, until the `with` ends. Gives the list of Calls, which grows
    meanwhile; behind the `with` all have ended."""
    calls, over = [], threading.Event()
    with grpc.insecure_channel(target, options=options) as channel:

        def run():
            begin = time.monotonic()
            for number in itertools.count():
                if over.wait(max(0, begin + number / rate - time.monotonic())):
                    return
                call = Call(("fixed", "flow")[number % 2])
                allow(channel, user, f"/{call.limit}", timeout=timeout).add_done_callback(call.end)
                calls.append(call)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield calls
        finally:
            over.set()
            thread.join()
            harness.wait_until(lambda: all(call.ended for call in calls), timeout + 10,
                               "the end of all calls")


@contextlib.contextmanager
def load(fronts, **options):
    """An open loop through each; gives the lists of Calls by name."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(open_loop(front.target, name, options=front.options, **options))
               for name, front in fronts.items()}


class Bench:
    """rlctl bench, which calls a target as fast as it can, until it is asked for its result. Of
    what gRPC would send again it sends nothing."""

    def __init__(self, target, callers, users):
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", harness.RLCTL, "bench", "--target", target,
             "--callers", str(callers), "--users", str(users), "--warmup", "0s", "--duration", "1h",
             "--timeout", "20s", "--json"], stdout=subprocess.PIPE, text=True)

    def is_running(self) -> bool:
        return self.process.poll() is None

    def result(self) -> dict:
        self.process.send_signal(signal.SIGINT)
        return json.loads(self.process.communicate(timeout=60)[0])


@contextlib.contextmanager
def bench(target, callers, users=1):
    """With `users` its calls are those of user-000000 and so on, so many."""
    running = Bench(target, callers, users)
    try:
        yield running
    finally:
        harness.end(running.process)


def failed(calls) -> list:
    return [call for call in calls if call.code != grpc.StatusCode.OK]


def admitted(calls) -> dict:
    counts = collections.Counter(call.limit for call in calls if call.allowed)
    return {limit: counts[limit] for limit in ("flow", "fixed")}
