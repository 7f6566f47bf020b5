"""Input that is wrong or hostile: a clear answer, and no effect on anybody else."""

import json
import re
import urllib.parse

import grpc
import pytest

import harness

ALLOW = "/limiter.RateLimiter/AllowRequest"
USAGE = "/limiter.RateLimiter/GetUsage"

# Valid, every one of them; 256 bytes at most.
HOSTILE = [
    "'", '"', "`", "a b", " ", "*", "a\nb", "\r\n", "\0", "a\0b", "a", "{", "}", "{}", "}{",
    "a}:default", "%", "%7D", "%257D", "%25", "\\", "\\n", '\\"', "__other__", "\x01\x1b[31m\x7f",
    "\u202egnp\u200f", "\u2028", "\x85", "𝄞" * 64, "é" * 128, "x" * 256, "default",
    "rl:1:default:{a}", 'a",status="allowed"} 1e9\nforged_total{a="', "$(id)",
    "a\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    '\n{"level":"error","message":"forged"}\n', "\n2026-01-01T00:00:00.000000Z info  forged\n",
]


@pytest.fixture(scope="module")
def redis():
    with harness.redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(redis):
    with harness.daemon(REDIS_URL=redis.url, REFILL_INTERVAL="30d") as running:
        yield running


@pytest.fixture
def fresh(redis):
    """Settings for a daemon whose buckets are all full."""
    redis.cli("FLUSHALL")
    return {"REDIS_URL": redis.url, "REFILL_INTERVAL": "30d"}


def counted(daemon) -> dict:
    """What /metrics says of each user, all statuses together."""
    users = {}
    for sample in daemon.samples("rate_limiter_requests_total"):
        user = sample.labels["user"]
        users[user] = users.get(user, 0) + sample.value
    return users


# --- Refused with a message ---


def text_field(number: int, value: bytes) -> bytes:
    """A protobuf field of at most 127 bytes, valid UTF-8 or not."""
    return bytes([number << 3 | 2, len(value)]) + value


def bytes_of(name, **fields) -> bytes:
    return harness.message(name)(**fields).SerializeToString()


def asked(**fields) -> bytes:
    return bytes_of("AllowRequestRequest", **fields)


LONG_USER = r"user_id is 257 bytes long; accepted: 1 to 256 bytes"
NO_USER = r"user_id is empty; accepted: 1 to 256 bytes"
NOT_PARSED = r"does not parse as limiter\.{}: malformed protobuf, or a string .* not valid UTF-8"
NOT_ALLOW, NOT_USAGE = map(NOT_PARSED.format, ("AllowRequestRequest", "GetUsageRequest"))

INVALID = {
    "no user": (ALLOW, b"", NO_USER),
    "empty user": (ALLOW, asked(user_id="", path="/"), NO_USER),
    "long user": (ALLOW, asked(user_id="u" * 257), LONG_USER),
    "long user in bytes alone": (ALLOW, asked(user_id="é" * 128 + "u"), LONG_USER),
    "long path": (ALLOW, asked(user_id="u", path="/" * 1025),
                  r"path is 1025 bytes long; accepted: at most 1024 bytes"),
    "cost above the capacity": (ALLOW, asked(user_id="u", cost=6),
                                r'cost is 6, .* limit "default".*; accepted: 0 to 5'),
    "greatest cost": (ALLOW, asked(user_id="u", cost=2**32 - 1),
                      r'cost is 4294967295, .* limit "default".*; accepted: 0 to 5'),
    "dry run above the capacity": (ALLOW, asked(user_id="u", cost=6, dry_run=True),
                                   r'limit "default".*; accepted: 0 to 5'),
    "user not UTF-8": (ALLOW, text_field(1, b"u\xff"), NOT_ALLOW),
    "user of a lone surrogate": (ALLOW, text_field(1, b"\xed\xa0\x80"), NOT_ALLOW),
    "path not UTF-8": (ALLOW, text_field(1, b"u") + text_field(2, b"\xc0\x80"), NOT_ALLOW),
    "cut off": (ALLOW, text_field(1, b"user")[:-1], NOT_ALLOW),
    "not protobuf": (ALLOW, b"\xff" * 20, NOT_ALLOW),
    "usage of no user": (USAGE, b"", NO_USER),
    "usage of a long user": (USAGE, bytes_of("GetUsageRequest", user_id="u" * 257), LONG_USER),
    "usage of a user not UTF-8": (USAGE, text_field(1, b"u\xff"), NOT_USAGE),
    "usage not protobuf": (USAGE, b"\xff" * 20, NOT_USAGE),
}


@pytest.mark.parametrize("method, message, says", INVALID.values(), ids=INVALID)
def test_invalid_argument(method, message, says, daemon, redis):
    keys = redis.cli("KEYS", "*")
    error = harness.error_of(daemon.send, method, message)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(says, error.details())
    assert redis.cli("KEYS", "*") == keys


def test_a_message_larger_than_grpc_accepts(daemon):
    error = harness.error_of(daemon.allow, "user", path="/" * (4 * 1024 * 1024))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()


def test_the_greatest_that_is_accepted(daemon):
    answer = daemon.allow("é" * 128, path="/" * 1024, cost=5)
    assert answer["allowed"] and answer["remaining"] == 0


def test_errors_are_counted_by_status(fresh):
    with harness.daemon(**fresh) as daemon:
        for message in (asked(user_id="u", cost=6), asked(user_id="u", path="/" * 1025), b""):
            harness.error_of(daemon.send, ALLOW, message)
        errors = {sample.labels["user"]: sample.value
                  for sample in daemon.samples("rate_limiter_requests_total")
                  if sample.labels["status"] == "error"}
        assert errors == {"u": 2, "__other__": 1}
        assert sum(counted(daemon).values()) == 3


# --- Looks ---


def test_looks_take_nothing_and_are_not_counted(fresh):
    with harness.daemon(**fresh) as daemon:
        daemon.allow("user")
        for look in ({"cost": 0}, {"dry_run": True}, {"cost": 4, "dry_run": True}):
            assert daemon.allow("user", **look)["allowed"]
        assert not daemon.allow("user", cost=5, dry_run=True)["allowed"]
        assert daemon.usage("user")["requests_used"] == 1
        daemon.allow("user", cost=4)
        assert daemon.allow("user", cost=0)["allowed"], "whatever is left"
        assert counted(daemon) == {"user": 2, "__other__": 0}


# --- Hostile, but valid ---


def subject_of(key: str) -> str:
    """The user id in a key's hash tag, which Redis Cluster ends at the first brace."""
    assert key.startswith("rl:1:default:{") and key.endswith("}")
    return urllib.parse.unquote(key[key.index("{") + 1:key.index("}")])


def test_hostile_users_have_buckets_of_their_own(fresh, redis):
    with harness.daemon(**fresh) as daemon:
        daemon.allow("bystander")
        for user in HOSTILE:
            answers = [daemon.allow(user)["allowed"] for _ in range(6)]
            assert answers == [True] * 5 + [False], user
            assert daemon.usage(user)["requests_used"] == 5
        assert daemon.usage("bystander")["requests_used"] == 1
        keys = json.loads(redis.cli("--json", "KEYS", "*"))
        assert sorted(map(subject_of, keys)) == sorted([*HOSTILE, "bystander"])


@pytest.mark.parametrize("store", ["redis", "memory"])
def test_hostile_users_do_not_harm_the_scrape(store, fresh):
    with harness.daemon(**fresh | {"STORE": store}) as daemon:
        for user in HOSTILE:
            daemon.allow(user)
        daemon.allow("bystander")
        harness.output_of("promtool", "check", "metrics", input=daemon.metrics())
        users = counted(daemon)
        assert users["bystander"] == 1
        assert sum(users.values()) == len(HOSTILE) + 1
        assert not any("forged" in sample.name for sample in harness.samples(daemon.metrics()))
        series = [tuple(sample.labels.values())
                  for sample in daemon.samples("rate_limiter_requests_total")]
        assert len(set(series)) == len(series)


@pytest.mark.parametrize("most", [0, 1, 7, len(HOSTILE)])
def test_users_with_series_are_bounded(most, fresh):
    with harness.daemon(METRICS_MAX_USERS=most, **fresh) as daemon:
        for user in [f"user-{number}" for number in range(most)] + HOSTILE:
            daemon.allow(user)
        users = counted(daemon)
        assert users == {f"user-{number}": 1 for number in range(most)} | {
            "__other__": len(HOSTILE)}
        harness.output_of("promtool", "check", "metrics", input=daemon.metrics())


# --- Log lines ---

FORGERY = '\n{"message":"forged"}\r\x1b[31m'
LINE = {
    "text": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (debug|info|warning|error)  "
                       r"[^\t]*(\tkind=\w+( dropped=\d+)?)?"),
    "json": re.compile(r'\{"time":".*Z","level":"(debug|info|warning|error)","message":".*"'
                       r'(,"kind":"\w+"(,"dropped":\d+)?)?\}'),
}


def hostile_redis(connection):
    """Tells a version that ends a log line and begins others."""
    version = FORGERY.encode()
    while connection.recv(65536):
        connection.sendall(b"*4\r\n$6\r\nserver\r\n$6\r\nnot it\r\n$7\r\nversion\r\n$%d\r\n%s\r\n" %
                           (len(version), version))


@pytest.mark.parametrize("form", LINE)
def test_log_lines_cannot_be_forged(form):
    with harness.fake_server(hostile_redis) as port, harness.daemon(
            REDIS_URL=f"redis://127.0.0.1:{port}", LOG_LEVEL="debug", LOG_FORMAT=form) as daemon:
        for user in HOSTILE:
            harness.error_of(daemon.allow, user, path=FORGERY)
        for method, message, _ in INVALID.values():
            harness.error_of(daemon.send, method, message)
        harness.error_of(daemon.send, ALLOW, text_field(1, b"\n{\xff}\nforged"))
        daemon.await_log("not ready")
        lines = daemon.log_text().removesuffix("\n").split("\n")
        assert any("not it" in line and "forged" in line for line in lines)
        for line in lines:
            assert LINE[form].fullmatch(line), line
            assert form == "text" or {"time", "level", "message"} <= set(json.loads(line))
            assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line)
