"""The metrics as they are scraped: docs/use/metrics.md compared with the program, and
what each of them counts."""

import hashlib
import re
import threading

import grpc
import pytest

import harness

DOCS = harness.ROOT / "docs" / "use" / "metrics.md"

# Ids that do harm where they are taken for something else.
HOSTILE = [
    "<script>alert(1)</script>", "\"'`", "a\nb", "a\r\nforged_total 1", "\0", "a\0b", "\x1b[31mred",
    "\u202egnp.exe", "\u2066a\u2069", "\u200f", "\u2028", "\ufeff", "😀" * 64, "x" * 126 + "€",
    "x" * 127 + "é", "x" * 125 + "😀", "\\", "\\n", "a\\\"}", "{}", "__other__", "__all__", " ", "\x7f",
    "\x80", "e\u0301",
]


# --- The tables ---


def rows(page, heading: str, columns: list) -> list:
    """The rows of the first table under a heading, as lists of cells."""
    section = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [[" ".join(cell.split()) for cell in line.strip("|").split("|")]
             for line in section.splitlines() if line.startswith("|")]
    assert table[0] == columns
    return table[2:]


def labels_of(cell: str) -> dict:
    """A row's labels, each with the values that it can have, None for any."""
    return {name: set(values.replace("`", "").split(", ")) if values else None for name, values in
            re.findall(r"`(\w+)`(?: \(([^)]*)\))?", cell)}


def scraped(daemon) -> dict:
    """name: (type, help, labels with the values that are there)."""
    scrape = daemon.metrics()
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", scrape, re.MULTILINE))
    found = {}
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", scrape, re.MULTILINE):
        parts = ["_bucket", "_sum", "_count"] if kind in ("histogram", "summary") else []
        labels = {}
        for sample in harness.samples(scrape):
            if sample.name in [name, *(name + part for part in parts)]:
                for label, value in sample.labels.items():
                    if label not in ("le", "quantile"):
                        labels.setdefault(label, set()).add(value)
        found[name] = (kind, helps[name], labels)
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """What is scraped of a daemon, by what it runs with."""
    limits = tmp_path_factory.mktemp("limits") / "limits.yaml"
    limits.write_text("limits: [{name: a, capacity: 1, refill: 1 per 1h}]")
    found = {}
    certificates = harness.Certificates(tmp_path_factory.mktemp("certificates"))
    with harness.redis_server() as redis:
        for name, settings in {"STORE=redis": {"REDIS_URL": redis.url}, "STORE=memory": {"STORE": "memory"},
                               "LIMITS_FILE": {"STORE": "memory", "LIMITS_FILE": limits},
                               "TLS_CERT": certificates.server() |
                               {"credentials": certificates.client()}}.items():
            with harness.daemon(**({"CAPACITY": 1} if name != "LIMITS_FILE" else {}), **settings) as daemon:
                for _ in range(2):
                    daemon.allow("user")
                daemon.metrics()  # Which is a scrape that counts.
                found[name] = scraped(daemon)
    return found


def test_the_page_has_every_metric_as_it_is(programs):
    told = {}
    for name, kind, labels, when, meaning in rows(DOCS, "All of them",
                                                  ["Metric", "Type", "Labels", "With", "Meaning"]):
        told[name.strip("`")] = (kind, meaning, labels_of(labels), when.replace("`", ""))
    always = set(programs["STORE=redis"]) & set(programs["STORE=memory"])
    for when, program in programs.items():
        there = {name for name, (*_, with_) in told.items() if with_ in ("", when) or
                 (with_ == "STORE=memory" and when in ("LIMITS_FILE", "TLS_CERT"))}
        assert there == set(program), f"with {when}"
        for name, (kind, help_, labels) in program.items():
            told_kind, meaning, told_labels, with_ = told[name]
            assert (told_kind, meaning) == (kind, help_), name
            assert (with_ == "") == (name in always), name
            assert list(told_labels) == list(labels), name
            for label, values in told_labels.items():
                assert values is None or values == labels[label], f"{name}: {label}"


# --- Calls ---


def calls(daemon, name="grpc_server_handled_total") -> dict:
    """Calls by method, and by code where they are ended; those that are not 0."""
    return {tuple(value for label, value in sample.labels.items() if label in ("grpc_method", "grpc_code")):
            sample.value for sample in daemon.samples(name) if sample.value}


def test_calls_count_by_method_and_code():
    with harness.daemon(STORE="memory") as daemon:
        assert calls(daemon) == {}
        daemon.allow("user")
        daemon.allow("user", dry_run=True)
        harness.error_of(daemon.allow, "")
        harness.error_of(daemon.allow, "user", cost=6)
        harness.error_of(daemon.call, "GetUsage", user_id="user", limit_name="none")
        harness.error_of(daemon.call, "AllowRequests")
        assert calls(daemon) == {
            ("AllowRequest", "OK"): 2, ("AllowRequest", "InvalidArgument"): 2,
            ("GetUsage", "NotFound"): 1, ("AllowRequests", "InvalidArgument"): 1}
        assert calls(daemon, "grpc_server_started_total") == {
            ("AllowRequest",): 4, ("GetUsage",): 1, ("AllowRequests",): 1}
        assert calls(daemon, "grpc_server_handling_seconds_count") == {
            ("AllowRequest",): 4, ("GetUsage",): 1, ("AllowRequests",): 1}
        (seconds,) = [sample.value for sample in daemon.samples("grpc_server_handling_seconds_sum")
                      if sample.labels["grpc_method"] == "AllowRequest"]
        assert 0 < seconds < 1


def test_a_call_that_is_shed_counts():
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=redis.url, MAX_IN_FLIGHT=1) as daemon:
        daemon.allow("user")
        redis.process.send_signal(harness.signal.SIGSTOP)
        waiting = threading.Thread(target=daemon.allow, args=("user",))
        waiting.start()
        harness.wait_until(lambda: daemon.samples("rate_limiter_in_flight_calls")[0].value == 1)
        harness.error_of(daemon.allow, "another")
        assert calls(daemon)[("AllowRequest", "ResourceExhausted")] == 1
        redis.process.send_signal(harness.signal.SIGCONT)
        waiting.join()
        assert calls(daemon)[("AllowRequest", "OK")] == 2


# --- Readiness, and Redis ---


def value(daemon, name: str, **labels) -> float:
    (found,) = [sample.value for sample in daemon.samples(name) if labels.items() <= sample.labels.items()]
    return found


def test_a_redis_that_goes_is_seen():
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=redis.url, DENY_CACHE_MAX_AGE="1m", REFILL_INTERVAL="1h") as daemon:
        for _ in range(7):
            daemon.allow("user")
        assert value(daemon, "rate_limiter_ready") == 1
        assert value(daemon, "redis_connections") == value(daemon, "redis_connections_opened_total") == 1
        assert value(daemon, "redis_round_trip_calls_count") == value(daemon, "redis_wait_seconds_count") == 6
        assert value(daemon, "redis_round_trip_calls_sum") == 6
        assert value(daemon, "rate_limiter_deny_cache_hits_total") == 1
        assert value(daemon, "redis_waiting_calls") == value(daemon, "redis_may_evict") == 0
        assert {sample.value for sample in daemon.samples("redis_errors_total")} == {0}

        redis.kill()
        harness.error_of(daemon.allow, "other")
        # Probes count as well: else nothing would be seen while calls do not wait for it.
        harness.wait_until(lambda: value(daemon, "rate_limiter_breaker_open") == 1)
        before = value(daemon, "redis_errors_total", kind="connect")
        harness.wait_until(lambda: value(daemon, "redis_errors_total", kind="connect") > before)
        harness.wait_until(lambda: value(daemon, "rate_limiter_ready") == 0)
        assert value(daemon, "redis_connections") == 0
        assert value(daemon, "rate_limiter_decisions_total", limit="default", status="error") == 1


def test_a_redis_that_may_evict_is_seen():
    with harness.redis_server("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru") as redis:
        with harness.daemon(REDIS_URL=redis.url) as daemon:
            daemon.allow("user")
            assert value(daemon, "redis_may_evict") == 1


# --- Users ---


def users(daemon, name="rate_limiter_requests_total") -> dict:
    """Requests by user, whatever their status."""
    found = {}
    for sample in daemon.samples(name):
        found[sample.labels["user"]] = found.get(sample.labels["user"], 0) + sample.value
    return found


HEAVY = "rate_limiter_heavy_user_requests"


def test_the_heaviest_users_have_gauges():
    with harness.daemon(STORE="memory", METRICS_TOP_USERS=2, METRICS_MAX_USERS=1, CAPACITY=2,
                        REFILL_INTERVAL="1h") as daemon:
        for user, times in {"first": 1, "heavy": 5, "light": 1, "heavier": 9}.items():
            for _ in range(times):
                daemon.allow(user)
        found = {(sample.labels["user"], sample.labels["status"]): sample.value
                 for sample in daemon.samples(HEAVY)}
        assert found == {("heavy", "allowed"): 2, ("heavier", "allowed"): 2,
                         ("heavier", "denied"): 7, ("heavy", "denied"): 3}
        assert value(daemon, "rate_limiter_tracked_users") == 1
        assert value(daemon, "rate_limiter_untracked_requests_total") == 15


def test_users_can_be_hashed():
    with harness.daemon(STORE="memory", METRICS_USER_LABEL="hash") as daemon:
        daemon.allow("user123")
        digest = hashlib.sha256(b"user123").hexdigest()[:16]
        assert users(daemon) == {digest: 1, "__other__": 0}
        assert users(daemon, HEAVY) == {digest: 1}
        assert "user123" not in daemon.metrics()


def test_users_can_be_left_out():
    with harness.daemon(STORE="memory", METRICS_USER_LABEL="off") as daemon:
        daemon.allow("user123")
        daemon.allow("another")
        harness.error_of(daemon.allow, "")
        assert users(daemon) == {"__all__": 3}
        assert users(daemon, HEAVY) == {"__all__": 2}
        assert "user123" not in daemon.metrics()


@pytest.mark.parametrize("label", ["plain", "hash", "off"])
def test_hostile_users_do_not_harm_a_scrape(label):
    with harness.daemon(STORE="memory", METRICS_USER_LABEL=label, METRICS_TOP_USERS=1000, CAPACITY=1,
                        REFILL_INTERVAL="1h") as daemon:
        for user in HOSTILE:
            for _ in range(2):
                daemon.allow(user)
        harness.error_of(daemon.send, "/limiter.RateLimiter/AllowRequest", b"\x0a\x03\xf0\x9f\x98")
        scrape = daemon.metrics()
        harness.output_of("promtool", "check", "metrics", input=scrape)
        found = harness.samples(scrape)
        assert not any(sample.name.startswith("forged") for sample in found)
        series = [(sample.name, *sample.labels.items()) for sample in found]
        assert len(set(series)) == len(series)
        for name in ("rate_limiter_requests_total", HEAVY):
            assert sum(users(daemon, name).values()) == 2 * len(HOSTILE)
        for user in users(daemon, HEAVY):
            assert len(user.encode()) <= 128 and not re.search(r"[\x00-\x1f\x7f-\x9f]", user)
