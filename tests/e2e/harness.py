"""Real servers on free ports of loopback, for tests that look from outside.

Every server that a `with` starts is ended by it, and dies with the test process.
"""

import collections
import concurrent.futures
import contextlib
import functools
import importlib
import os
import pathlib
import re
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import grpc
from google.protobuf import json_format

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RATELIMITER_BUILD", ROOT / "build" / "release"))
DAEMON = BUILD / "bin" / "ratelimiterd"
RLCTL = BUILD / "bin" / "rlctl"


RESERVED = []


def free_port() -> int:
    """A port on which nobody answers, kept for a server that is told its number: as
    long as this process lives, the system gives it to nobody else by itself."""
    holder = socket.socket()
    # Servers set it too, and so may bind beside a socket that does not listen.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    RESERVED.append(holder)
    return holder.getsockname()[1]


def connections_to(port: int) -> set:
    """Those that are established to a port of this machine: both ends of each."""
    established = "01"
    rows = [line.split() for name in ("tcp", "tcp6")
            for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]]
    return {(local, remote) for _, local, remote, state, *_ in rows
            if state == established and int(remote.split(":")[1], 16) == port}


def wait_until(predicate, timeout: float = 10.0, what: str = "what is waited for"):
    """Polls until `predicate` returns something true, and returns that."""
    give_up = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > give_up:
            raise AssertionError(f"{what} did not come within {timeout} s")
        time.sleep(0.02)


def start(command, log, env=None) -> subprocess.Popen:
    """Starts a process that dies with this one."""
    # By a program of its own: code between fork and exec would have Python fork a
    # process in which gRPC has threads, which can hang.
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *(str(word) for word in command)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=env,
    )


def end(process: subprocess.Popen):
    if process.poll() is None:
        process.kill()
        process.send_signal(signal.SIGCONT)
    process.wait()


def output_of(*command, **options) -> str:
    """What a command that succeeds prints."""
    result = subprocess.run(command, capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


class Redis:
    def __init__(self, *args, port=None, wrapper=()):
        """`wrapper` is a command that runs redis-server's."""
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.args, self.wrapper = args, wrapper
        self.process = None

    def start(self):
        command = [*self.wrapper, "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", *self.args]
        self.process = start(command, subprocess.DEVNULL)
        wait_until(lambda: "PONG" in self.cli("PING", check=False) or
                   "NOAUTH" in self.cli("PING", check=False), what="redis-server")

    def kill(self):
        end(self.process)

    def cli(self, *command, check=True) -> str:
        done = subprocess.run(["redis-cli", "-p", str(self.port), *command], capture_output=True,
                              text=True, check=check)
        return done.stdout.strip()

    def role(self) -> str:
        return self.cli("ROLE", check=False).split("\n")[0]


@contextlib.contextmanager
def redis_server(*args, port=None):
    redis = Redis(*args, port=port)
    try:
        redis.start()
        yield redis
    finally:
        end(redis.process)


def replicating(directory, *args):
    """A server in a directory of its own: a replica writes what its master sent into a
    file, which whoever starts beside it would read."""
    directory.mkdir()
    return redis_server("--dir", str(directory), "--repl-diskless-sync-delay", "0", *args)


class Sentinels:
    """A master, a replica, and three sentinels that replace it once it has not answered
    for `down_after_ms`."""

    def __init__(self, stack, directory, down_after_ms=500):
        self.master = stack.enter_context(replicating(directory / "master"))
        self.replica = stack.enter_context(replicating(
            directory / "replica", "--replicaof", "127.0.0.1", str(self.master.port)))
        wait_until(lambda: "master_link_status:up" in self.replica.cli("INFO", "replication"),
                   what="the replica")
        self.sentinels = []
        for number in range(3):
            port = free_port()
            conf = directory / f"sentinel-{number}.conf"
            conf.write_text(f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
                            f"sentinel monitor mymaster 127.0.0.1 {self.master.port} 2\n"
                            f"sentinel down-after-milliseconds mymaster {down_after_ms}\n"
                            "sentinel failover-timeout mymaster 3000\n")
            process = start(["redis-server", conf, "--sentinel"], subprocess.DEVNULL)
            stack.callback(end, process)
            self.sentinels.append(Redis(port=port))
        for sentinel in self.sentinels:
            wait_until(lambda: self._is_complete(sentinel), 30, what="the sentinels")
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis-sentinel://{hosts}/mymaster"

    @staticmethod
    def _is_complete(sentinel) -> bool:
        words = sentinel.cli("SENTINEL", "MASTER", "mymaster", check=False).split("\n")
        facts = dict(zip(words[::2], words[1::2]))
        return facts.get("num-slaves") == "1" and facts.get("num-other-sentinels") == "2"

    def announced(self) -> str:
        """The master's port, where all sentinels agree."""
        said = {sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster").split("\n")[-1]
                for sentinel in self.sentinels}
        return said.pop() if len(said) == 1 else ""

    def await_failover(self):
        wait_until(lambda: self.announced() == str(self.replica.port) and
                   self.replica.role() == "master", 90, what="the failover")


class RedisCluster:
    """A Redis Cluster of three masters with a replica each, in folders of their own, which
    replaces a master that has not answered for `node_timeout_ms`."""

    def __init__(self, stack, directory, *args, node_timeout_ms=1000):
        self.nodes = []
        for number in range(6):
            home = directory / f"node-{number}"
            home.mkdir()
            self.nodes.append(stack.enter_context(redis_server(
                "--dir", str(home), "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                "--cluster-node-timeout", str(node_timeout_ms), "--repl-diskless-sync-delay", "0", *args)))
        output_of("redis-cli", "--cluster", "create", *map(self.address, self.nodes),
                  "--cluster-replicas", "1", "--cluster-yes")
        self.masters = self.nodes[:3]
        self.ids = {node: node.cli("CLUSTER", "MYID") for node in self.nodes}
        for node in self.nodes:
            wait_until(lambda: "cluster_state:ok" in node.cli("CLUSTER", "INFO"), 30, "the Cluster")
        for node in self.nodes[3:]:
            wait_until(lambda: "master_link_status:up" in node.cli("INFO", "replication"), 30,
                       "the replicas")
        self.url = "redis-cluster://" + ",".join(map(self.address, self.masters))

    @staticmethod
    def address(node) -> str:
        return f"127.0.0.1:{node.port}"

    def slot(self, key) -> int:
        return int(self.nodes[-1].cli("CLUSTER", "KEYSLOT", key))

    def owner(self, slot) -> Redis:
        """The master that has a slot, as most nodes say."""
        said = collections.Counter()
        for node in self.nodes:
            for line in node.cli("CLUSTER", "NODES", check=False).splitlines():
                identity, *_ = words = line.split()
                ranges = [word.split("-") for word in words[8:] if not word.startswith("[")]
                said[identity] += any(int(ends[0]) <= slot <= int(ends[-1]) for ends in ranges)
        (best, _), = said.most_common(1)
        return next(node for node in self.nodes if self.ids[node] == best)

    def open_slot(self, slot) -> tuple:
        """Has a slot be on its way from one master to another, and gives both."""
        source = self.owner(slot)
        target = next(node for node in self.masters if node is not source)
        target.cli("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.ids[source])
        source.cli("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.ids[target])
        return source, target

    def close_slot(self, slot, source, target):
        """Has the rest of its keys follow, and the slot itself, as redis-cli does."""
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", str(slot), "10").splitlines():
            source.cli("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
        for node in (target, source, *self.masters):
            node.cli("CLUSTER", "SETSLOT", str(slot), "NODE", self.ids[target])


def clean_environment(**settings) -> dict:
    """An environment in which only `settings` say how the daemon runs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "ASAN_OPTIONS",
                                                "LSAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ}
    return kept | {name: str(value) for name, value in settings.items()}


def run_to_end(*flags, **settings) -> subprocess.CompletedProcess:
    """A ratelimiterd that is expected to end by itself."""
    return subprocess.run([DAEMON, *flags], env=clean_environment(**settings), timeout=20,
                          capture_output=True, text=True)


Setting = collections.namedtuple("Setting", "flag default accepted meaning")


def settings_in_help(program=DAEMON) -> dict:
    """Each by its name, in the order of --help."""
    text = " ".join(output_of(program, "--help", env=clean_environment()).split())
    # CLI11 writes --flag=default, and its later versions --flag [default]; an empty one it
    # leaves out.
    rows = re.findall(r"(--[a-z-]+)(?:=| \[)?(\S*?)\]? \(Env:(\w+)\) (.+?)\. "
                      r"Accepted: (.+?)(?= --[a-z]| A flag overrides)", text)
    return {name: Setting(flag, default, accepted, meaning)
            for flag, default, name, meaning, accepted in rows}


class Daemon:
    """One ratelimiterd, or a program that starts like it. Settings are keyword
    arguments by their names; None leaves one at the daemon's own default.
    REDIS_TIMEOUT is long: no call may fail because the machine is busy.
    `credentials` are those of its channel, which without them has no TLS."""

    def __init__(self, *flags, program=DAEMON, credentials=None, **settings):
        defaults = {"PORT": 0, "METRICS_PORT": 0, "BIND": "127.0.0.1",
                    "METRICS_BIND": "127.0.0.1", "LOG_FORMAT": "json", "DRAIN_TIME": "0",
                    "REDIS_TIMEOUT": "20s"}
        given = {name: value for name, value in (defaults | settings).items() if value is not None}
        generated()  # Before callers on threads ask for it at once.
        self.log = self._open_log()
        self.process = start([program, *flags], self.log, clean_environment(**given))
        self.start_line = wait_until(self._find_start_line, what="the start line")
        words = self.start_line.replace(",", "").split()
        ports = [int(words[i + 1]) for i, word in enumerate(words) if word == "port"]
        self.port, self.metrics_port = ports[:2]
        self.admin_port = ports[2] if " admin on " in self.start_line else None
        self.address = f"{self._host(given.get('BIND'))}:{self.port}"
        self.metrics_address = f"{self._host(given.get('METRICS_BIND'))}:{self.metrics_port}"
        self.channel = (grpc.secure_channel(self.address, credentials) if credentials else
                        grpc.insecure_channel(self.address))

    @staticmethod
    def _host(bind) -> str:
        """Where loopback reaches what listens on `bind`."""
        return bind if bind and bind.startswith("127.") else "127.0.0.1"

    def _open_log(self):
        return tempfile.NamedTemporaryFile(prefix="ratelimiterd-", suffix=".log")

    def log_text(self) -> str:
        return pathlib.Path(self.log.name).read_text(encoding="utf-8", errors="replace")

    def await_log(self, *texts):
        wait_until(lambda: all(text in self.log_text() for text in texts), what=f"{texts} in the log")

    def _find_start_line(self):
        if self.process.poll() is not None:
            raise AssertionError(f"ratelimiterd ended with {self.process.returncode}:\n"
                                 f"{self.log_text()}")
        lines = [line for line in self.log_text().split("\n") if "gRPC on" in line]
        return lines[0] if lines else None

    def send(self, method: str, message: bytes, timeout=10.0) -> bytes:
        """One call with the very bytes of its message."""
        return self.channel.unary_unary(method)(message, timeout=timeout)

    def call(self, method: str, timeout=10.0, **fields) -> dict:
        request = message(f"{method}Request")(**fields).SerializeToString()
        answer = self.send(f"/limiter.RateLimiter/{method}", request, timeout)
        response = message(f"{method}Response").FromString(answer)
        return json_format.MessageToDict(response, preserving_proto_field_name=True)

    def allow(self, user_id, path="/", **fields) -> dict:
        return self.call("AllowRequest", user_id=user_id, path=path, **fields)

    def usage(self, user_id) -> dict:
        return self.call("GetUsage", user_id=user_id)

    def health(self, service="") -> str:
        health = proto("health/v1/health")
        request = health.HealthCheckRequest(service=service).SerializeToString()
        answer = self.send("/grpc.health.v1.Health/Check", request)
        status = health.HealthCheckResponse.FromString(answer).status
        return health.HealthCheckResponse.ServingStatus.Name(status)

    def metrics(self) -> str:
        url = f"http://{self.metrics_address}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()

    def samples(self, name: str) -> list:
        return [sample for sample in samples(self.metrics()) if sample.name == name]

    def total(self, name: str, **labels) -> int:
        """The sum over a counter's series that have these labels."""
        return int(sum(sample.value for sample in self.samples(name)
                       if labels.items() <= sample.labels.items()))

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def daemon(*flags, **settings):
    running = Daemon(*flags, **settings)
    try:
        yield running
    finally:
        running.channel.close()
        end(running.process)
        running.log.close()


class Certificates:
    """Those that make_certificates.sh makes, in `folder`, and who uses them."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        make = ROOT / "tests/support/make_certificates.sh"
        subprocess.run([make, folder], check=True, capture_output=True)

    def path(self, file: str) -> str:
        return str(self.folder / file)

    def pem(self, file: str) -> bytes:
        return (self.folder / file).read_bytes()

    def server(self, name="localhost", client_ca=None) -> dict:
        """Settings of a daemon with that certificate."""
        more = {"TLS_CLIENT_CA": self.path(client_ca)} if client_ca else {}
        return {"STORE": "memory", "TLS_CERT": self.path(f"{name}.crt"),
                "TLS_KEY": self.path(f"{name}.key")} | more

    def client(self, ca="ca.crt", name=None) -> grpc.ChannelCredentials:
        """Whom a client trusts, and who it is."""
        own = (self.pem(f"{name}.key"), self.pem(f"{name}.crt")) if name else ()
        return grpc.ssl_channel_credentials(self.pem(ca), *own)


def error_of(call, *args, **fields) -> grpc.RpcError:
    """The error that a call ends with."""
    try:
        answer = call(*args, **fields)
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"{answer} came, and no error")


def at_once(action, count: int):
    """Runs action(0), action(1), … on `count` threads at once, and waits for them."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(action, number) for number in range(count)]:
            done.result()


Outcome = collections.namedtuple("Outcome", "begun ended error")


@contextlib.contextmanager
def load(call, callers=8):
    """Callers at once, each calling again and again until the `with` ends. Gives the
    list of Outcomes, which grows meanwhile."""
    outcomes, over = [], threading.Event()

    def run():
        while not over.is_set():
            begun, error = time.monotonic(), None
            try:
                call()
            except grpc.RpcError as failure:
                error = failure
            outcomes.append(Outcome(begun, time.monotonic(), error))

    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        running = [pool.submit(run) for _ in range(callers)]
        try:
            yield outcomes
        finally:
            over.set()
    for caller in running:
        caller.result()


@contextlib.contextmanager
def fake_server(speak, host="127.0.0.1"):
    """A server on a free port of `host`, which it gives; `speak` has each connection, on a
    thread of its own."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with contextlib.suppress(OSError):
                speak(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


Sample = collections.namedtuple("Sample", "name labels value")


def samples(exposition: str) -> list:
    """Every line of a scrape that is a sample."""

    def unescape(text):
        return re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), text)

    found = []
    for line in exposition.split("\n"):
        if line and not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
            pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")
            found.append(Sample(name, {key: unescape(text) for key, text in pairs}, float(value)))
    return found


# Those of gRPC without the first folder, for Python's gRPC and protobuf have the names.
PROTOS = ["limiter/limiter.proto", "health/v1/health.proto", "reflection/v1/reflection.proto",
          "rpc/status.proto", "rpc/error_details.proto"]


@functools.cache
def generated() -> tempfile.TemporaryDirectory:
    directory = tempfile.TemporaryDirectory(prefix="ratelimiter-proto-")
    subprocess.run(["protoc", "-I", ROOT / "proto", "-I", ROOT / "proto" / "grpc",
                    "-I", ROOT / "proto" / "google", f"--python_out={directory.name}", *PROTOS], check=True)
    sys.path.insert(0, directory.name)
    return directory


def proto(name: str):
    """The module of one of PROTOS, such as "limiter/limiter"."""
    generated()
    return importlib.import_module(name.replace("/", ".") + "_pb2")


def message(name: str):
    """A message type of our API."""
    return getattr(proto("limiter/limiter"), name)
