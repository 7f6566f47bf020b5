"""Real servers on free ports of loopback, for tests that look from outside.

Every server that a `with` starts is ended by it, and dies with the test process.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import grpc
from google.protobuf import json_format

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RATELIMITER_BUILD", ROOT / "build" / "release"))
DAEMON = BUILD / "bin" / "ratelimiterd"
RLCTL = BUILD / "bin" / "rlctl"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


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

    def die_with_parent():
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=env,
        preexec_fn=die_with_parent,
    )


def end(process: subprocess.Popen):
    if process.poll() is None:
        process.kill()
        process.send_signal(signal.SIGCONT)
    process.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


class Redis:
    def __init__(self, *args, port=None):
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.args = args
        self.process = None

    def start(self):
        command = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "",
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


@contextlib.contextmanager
def redis_server(*args, port=None):
    redis = Redis(*args, port=port)
    try:
        redis.start()
        yield redis
    finally:
        end(redis.process)


def clean_environment(**settings) -> dict:
    """An environment in which only `settings` say how the daemon runs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "ASAN_OPTIONS",
                                                "UBSAN_OPTIONS") if name in os.environ}
    return kept | {name: str(value) for name, value in settings.items()}


class Daemon:
    """One ratelimiterd. Settings are keyword arguments by their names."""

    def __init__(self, **settings):
        defaults = {"PORT": 0, "METRICS_PORT": 0, "BIND": "127.0.0.1",
                    "METRICS_BIND": "127.0.0.1", "LOG_FORMAT": "json", "DRAIN_TIME": "0"}
        self.log = tempfile.NamedTemporaryFile(prefix="ratelimiterd-", suffix=".log")
        self.process = start([DAEMON], self.log, clean_environment(**(defaults | settings)))
        self.start_line = wait_until(self._find_start_line, what="the start line")
        words = self.start_line.replace(",", "").split()
        ports = [int(words[i + 1]) for i, word in enumerate(words) if word == "port"]
        self.port, self.metrics_port = ports[:2]
        self.address = f"127.0.0.1:{self.port}"
        self.channel = grpc.insecure_channel(self.address)

    def log_text(self) -> str:
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def _find_start_line(self):
        if self.process.poll() is not None:
            raise AssertionError(f"ratelimiterd ended with {self.process.returncode}:\n"
                                 f"{self.log_text()}")
        lines = [line for line in self.log_text().splitlines() if "gRPC on" in line]
        return lines[0] if lines else None

    def call(self, method: str, timeout=10.0, **fields) -> dict:
        request_type, response_type = messages()[method]
        invoke = self.channel.unary_unary(
            f"/limiter.RateLimiter/{method}",
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString)
        response = invoke(request_type(**fields), timeout=timeout)
        return json_format.MessageToDict(response, preserving_proto_field_name=True)

    def allow(self, user_id, path="/", **fields) -> dict:
        return self.call("AllowRequest", user_id=user_id, path=path, **fields)

    def usage(self, user_id) -> dict:
        return self.call("GetUsage", user_id=user_id)

    def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@contextlib.contextmanager
def daemon(**settings):
    running = Daemon(**settings)
    try:
        yield running
    finally:
        running.channel.close()
        end(running.process)
        running.log.close()


def messages() -> dict:
    """The methods' message types, generated from the .proto once a process."""
    if not hasattr(messages, "types"):
        directory = tempfile.mkdtemp(prefix="ratelimiter-proto-")
        subprocess.run(["protoc", "-I", ROOT / "proto", f"--python_out={directory}",
                        "limiter/limiter.proto"], check=True)
        sys.path.insert(0, directory)
        from limiter import limiter_pb2

        messages.types = {
            "AllowRequest": (limiter_pb2.AllowRequestRequest, limiter_pb2.AllowRequestResponse),
            "GetUsage": (limiter_pb2.GetUsageRequest, limiter_pb2.GetUsageResponse),
        }
    return messages.types
