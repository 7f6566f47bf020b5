"""The product description's examples, word for word but for the ports, by every
client that it names or that people use in their place."""

import concurrent.futures
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time

import grpc
import pytest
from google.protobuf import descriptor_pb2, json_format

import harness

TOOLS = harness.ROOT / "build" / "tools"
PATH = f"{TOOLS}/bin:{TOOLS}/venv/bin:{os.environ['PATH']}"
SERVICE = "limiter.RateLimiter"
SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection", SERVICE]


def run(command: str) -> subprocess.CompletedProcess:
    return subprocess.run(shlex.split(command), env=os.environ | {"PATH": PATH}, timeout=30,
                          capture_output=True, text=True)


def printed(command: str) -> str:
    result = run(command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def by_grpcurl(port, method, request):
    return f"grpcurl -plaintext -d '{request}' localhost:{port} {method}"


def by_buf(port, method, request):
    return (f"buf curl --protocol grpc --http2-prior-knowledge -d '{request}' "
            f"http://localhost:{port}/{method}")


COMMANDS = {"grpcurl": by_grpcurl, "buf": by_buf}
# grpcurl is built with Go: not everyone has one that can, but CI must.
if shutil.which("grpcurl", path=PATH) is None and not ("CI" in os.environ and shutil.which("go")):
    del COMMANDS["grpcurl"]
needs_grpcurl = pytest.mark.skipif("grpcurl" not in COMMANDS, reason="needs grpcurl")


def by_python(port, method, request):
    name = method.split("/")[1]
    message = json_format.Parse(request, harness.message(f"{name}Request")())
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        answer = channel.unary_unary(f"/{method}")(message.SerializeToString(), timeout=10)
    return json_format.MessageToJson(harness.message(f"{name}Response").FromString(answer))


def ask(client, port, method, request) -> list:
    """The JSON that the client prints, as (name, value) in its order."""
    method = f"{SERVICE}/{method}"
    if client == "python":
        text = by_python(port, method, request)
    else:
        text = printed(COMMANDS[client](port, method, request))
    return list(json.loads(text).items())


@pytest.fixture(scope="module")
def redis():
    with harness.redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def daemons(redis):
    """Two instances as the description starts them, but that no token comes back
    while a test runs."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(harness.daemon(
            PORT=harness.free_port(), METRICS_PORT=harness.free_port(), BIND=None,
            METRICS_BIND=None, LOG_FORMAT=None, DRAIN_TIME=None, REDIS_URL=redis.url,
            REFILL_INTERVAL="30d")) for _ in range(2)]


@pytest.fixture
def port(daemons, redis):
    """Of an instance that knows no user yet."""
    redis.cli("FLUSHALL")
    # What it was refused before it goes on knowing for DENY_CACHE_MAX_AGE.
    for daemon in daemons:
        harness.wait_until(lambda: daemon.allow("user123")["allowed"], what="user123's new bucket")
    redis.cli("FLUSHALL")
    return daemons[0].port


# --- The two calls ---


@pytest.mark.parametrize("client", [*COMMANDS, "python"])
def test_calls_answer_as_described(client, port):
    allowed = [("allowed", True), ("reason", "Request allowed")]
    user = '{"user_id": "user123"}'
    assert ask(client, port, "GetUsage", user)[:2] == [
        ("requests_used", 0), ("requests_allowed", 5)]
    for _ in range(3):
        request = '{"user_id": "user123", "path": "/login"}'
        assert ask(client, port, "AllowRequest", request)[:2] == allowed
    assert ask(client, port, "GetUsage", user)[:2] == [
        ("requests_used", 3), ("requests_allowed", 5)]
    for _ in range(2):
        assert ask(client, port, "AllowRequest", '{"userId": "user123"}')[:2] == allowed
    refused, reason = ask(client, port, "AllowRequest", user)[:2]
    assert refused == ("allowed", False)
    assert reason == ("reason", 'Limit "default" exceeded: cost 1, 0 of 5 tokens left')
    assert ask(client, port, "GetUsage", '{"userId": "user123"}')[:2] == [
        ("requests_used", 5), ("requests_allowed", 5)]


@needs_grpcurl
def test_grpcurl_prints_as_described(port):
    command = ("grpcurl -plaintext -d '{\"user_id\":\"user123\", \"path\":\"/test\"}' "
               f"localhost:{port} limiter.RateLimiter/AllowRequest")
    described = '{\n  "allowed": true,\n  "reason": "Request allowed"'
    for _ in range(3):
        assert printed(command).startswith(described)
    usage = printed(by_grpcurl(port, f"{SERVICE}/GetUsage", '{"user_id": "user123"}'))
    assert usage.startswith('{\n  "requests_used": 3,\n  "requests_allowed": 5,\n')


# --- Finding out what is there, without any .proto ---


@needs_grpcurl
def test_grpcurl_lists_and_describes(port):
    server = f"grpcurl -plaintext localhost:{port}"
    assert printed(f"{server} list").split() == SERVICES
    assert printed(f"{server} list {SERVICE}").split() == [
        f"{SERVICE}.AllowRequest", f"{SERVICE}.AllowRequests", f"{SERVICE}.GetUsage"]
    for service in SERVICES:
        assert f"{service} is a service:" in printed(f"{server} describe {service}")
    service = printed(f"{server} describe {SERVICE}")
    for method in ("AllowRequest", "GetUsage"):
        assert (f"rpc {method} ( .limiter.{method}Request ) "
                f"returns ( .limiter.{method}Response );") in service
    request = printed(f"{server} describe limiter.AllowRequestRequest")
    assert "string user_id = 1;" in request and "string path = 2;" in request


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
def test_buf_lists_and_calls(version, port):
    buf = f"buf curl --protocol grpc --http2-prior-knowledge --reflect-protocol {version}"
    assert printed(f"{buf} http://localhost:{port} --list-services").split() == SERVICES
    methods = printed(f"{buf} http://localhost:{port} --list-methods").split()
    assert {f"{SERVICE}/AllowRequest", f"{SERVICE}/GetUsage"} <= set(methods)
    usage = printed(f"{buf} -d '{{\"user_id\": \"a\"}}' http://localhost:{port}/{SERVICE}/GetUsage")
    assert list(json.loads(usage).items())[:2] == [("requests_used", 0), ("requests_allowed", 5)]


def reflect(channel, version, **requests) -> list:
    """One stream of reflection, asked all `requests` in turn."""
    reflection = harness.proto("reflection/v1/reflection")  # v1alpha's messages are the same.
    stream = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection.ServerReflectionResponse.FromString)
    asked = [reflection.ServerReflectionRequest(**{name: value})
             for name, value in requests.items()]
    return list(stream(iter(asked), timeout=10))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_on_the_wire(version, daemons):
    services, file, unknown = reflect(daemons[0].channel, version, list_services="",
                                      file_containing_symbol=SERVICE,
                                      file_by_filename="no/such.proto")
    assert sorted(service.name for service in services.list_services_response.service) == SERVICES
    served = descriptor_pb2.FileDescriptorProto.FromString(
        file.file_descriptor_response.file_descriptor_proto[0])
    ours = descriptor_pb2.FileDescriptorProto()
    harness.proto("limiter/limiter").DESCRIPTOR.CopyToProto(ours)
    assert served == ours
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


# --- Health ---


@pytest.mark.parametrize("client", COMMANDS)
def test_health_by_command(client, port):
    method = "grpc.health.v1.Health/Check"
    for request in ("{}", f'{{"service": "{SERVICE}"}}'):
        answer = printed(COMMANDS[client](port, method, request))
        assert json.loads(answer) == {"status": "SERVING"}
    unknown = run(COMMANDS[client](port, method, '{"service": "no.such.Service"}'))
    assert unknown.returncode != 0
    assert re.search("not_?found", unknown.stdout + unknown.stderr, re.IGNORECASE)


def test_health_by_python(daemons):
    for service in ("", SERVICE):
        assert daemons[0].health(service) == "SERVING"
    error = harness.error_of(daemons[0].health, "no.such.Service")
    assert error.code() == grpc.StatusCode.NOT_FOUND


# --- Instances ---


def test_instances_listen_where_they_are_told(daemons):
    for daemon in daemons:
        assert f"gRPC on :: port {daemon.port}, metrics on :: port " in daemon.start_line
        assert daemon.health() == "SERVING"
        assert "rate_limiter_requests_total" in daemon.metrics()
    assert len({port for daemon in daemons for port in (daemon.port, daemon.metrics_port)}) == 4


@pytest.mark.parametrize("client", [*COMMANDS, "python"])
def test_distributed_coordination(client, daemons, port):
    user = '{"user_id": "user123"}'
    answers = [dict(ask(client, daemon.port, "AllowRequest", user))["allowed"]
               for _ in range(4) for daemon in daemons]
    assert answers == [True] * 5 + [False] * 3
    for daemon in daemons:
        assert dict(ask(client, daemon.port, "GetUsage", user))["requests_used"] == 5


def test_distributed_coordination_at_once(daemons, port):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda turn: daemons[turn % 2].allow("user123")["allowed"], range(200))
        assert sum(answers) == 5


def test_defaults_are_five_tokens_and_one_back_every_two_seconds(redis):
    with harness.daemon(REDIS_URL=redis.url, KEY_PREFIX="defaults") as daemon:

        def refusal():
            asked = time.monotonic()
            answer = daemon.allow("user123")
            return not answer["allowed"] and (asked, answer)

        assert all(daemon.allow("user123")["allowed"] for _ in range(5))
        # On a slow machine a token may be back by now.
        asked, refused = harness.wait_until(refusal, what="a refusal")
        wait, full = (float(refused[name].removesuffix("s"))
                      for name in ("retry_after", "reset_after"))
        assert 0 < wait <= 2
        assert full == pytest.approx(wait + 4 * 2, abs=1e-6)

        harness.wait_until(lambda: daemon.allow("user123")["allowed"], timeout=wait + 5,
                           what="the next token")
        assert time.monotonic() - asked >= wait, "no token came early"
