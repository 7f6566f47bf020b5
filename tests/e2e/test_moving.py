"""From one Redis to another, as docs/operate/operations.md has it: what becomes of the buckets."""

import collections
import contextlib
import itertools
import subprocess
import time

import pytest

import harness

# Nothing comes back while a test runs.
LIMIT = {"CAPACITY": 10, "REFILL_TOKENS": 1, "REFILL_INTERVAL": "1d"}
USERS = [f"user-{number}" for number in range(20)]


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def daemon_of(stack, url, **limit):
    return stack.enter_context(harness.daemon(REDIS_URL=url, **LIMIT | limit))


def used(daemon) -> list:
    return [daemon.usage(user)["requests_used"] for user in USERS]


def test_behind_sentinels_they_are_the_same_and_a_failover_keeps_them(stack, tmp_path):
    sentinels = harness.Sentinels(stack, tmp_path, down_after_ms=60_000)
    before, after = daemon_of(stack, sentinels.master.url), daemon_of(stack, sentinels.url)
    # While the instances go over one by one, some ask by the one address and some by the other.
    for daemon in (before, after, before):
        for user in USERS:
            assert daemon.allow(user)["allowed"]
    assert used(before) == used(after) == [3] * len(USERS)

    harness.wait_until(lambda: sentinels.master.cli("WAIT", "1", "1000") == "1", what="the replica")
    harness.wait_until(lambda: sentinels.sentinels[0].cli("SENTINEL", "FAILOVER", "mymaster") == "OK",
                       what="a replica that may be the master")
    sentinels.await_failover()
    harness.wait_until(lambda: after.health() == "SERVING", 30, "readiness")
    # It may be that the sentinels are asked again only now.
    harness.wait_until(lambda: used(after) == [3] * len(USERS), what="the buckets")
    assert after.allow(USERS[0])["remaining"] == 6


def test_a_cluster_begins_with_full_buckets_or_with_what_was_copied(stack, tmp_path):
    single = stack.enter_context(harness.redis_server())
    cluster = harness.RedisCluster(stack, tmp_path, node_timeout_ms=60_000)
    before, after = daemon_of(stack, single.url), daemon_of(stack, cluster.url)
    for user in USERS:
        assert before.allow(user, cost=4)["allowed"]
    assert used(after) == [0] * len(USERS)

    done = subprocess.run(["redis-cli", "--cluster", "import", cluster.address(cluster.masters[0]),
                           "--cluster-from", f"127.0.0.1:{single.port}", "--cluster-copy",
                           "--cluster-replace"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert used(after) == used(before) == [4] * len(USERS)
    assert after.allow(USERS[0])["remaining"] == 5
    # The expiry came along.
    key = f"rl:1:default:{{{USERS[1]}}}"
    there = cluster.owner(cluster.slot(key))
    expires = int(single.cli("PEXPIRETIME", key))
    assert expires > 0 and abs(int(there.cli("PEXPIRETIME", key)) - expires) < 60_000


# --- Under load ---

Call = collections.namedtuple("Call", "daemon begun ended allowed")


def calls_while_instances_go_over(stack, before, after, user, awaited=frozenset({False}), **limit) -> list:
    """Two instances go from one Redis to another, one after the other, each time after both
    have given every answer of `awaited`, while a user's calls come through both as fast as
    they can: the Calls by those at either Redis."""
    old = [daemon_of(stack, before, **limit) for _ in range(2)]
    taking_calls, turns, calls = list(old), itertools.count(), []

    def call():
        daemon, begun = taking_calls[next(turns) % 2], time.monotonic()
        allowed = daemon.allow(user)["allowed"]
        calls.append(Call(daemon, begun, time.monotonic(), allowed))

    def await_answers():
        begin, daemons = len(calls), list(taking_calls)
        harness.wait_until(lambda: all({call.allowed for call in calls[begin:] if call.daemon is daemon} >= awaited
                                       for daemon in daemons), 60, "the answers of both")

    with harness.load(call) as outcomes:
        for place in range(2):
            await_answers()
            taking_calls[place] = daemon_of(stack, after, **limit)
        await_answers()
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return [[call for call in calls if (call.daemon in old) == is_old] for is_old in (True, False)]


def allowed(calls) -> int:
    return sum(call.allowed for call in calls)


def span(calls) -> float:
    return max(call.ended for call in calls) - min(call.begun for call in calls)


def test_under_load_sentinels_give_one_quota_to_those_at_either_address(stack, tmp_path):
    sentinels = harness.Sentinels(stack, tmp_path, down_after_ms=60_000)
    old, new = calls_while_instances_go_over(stack, sentinels.master.url, sentinels.url, "user", CAPACITY=300)
    assert old and new and allowed(old) + allowed(new) == 300
    rate, capacity = 20, 50
    old, new = calls_while_instances_go_over(
        stack, sentinels.master.url, sentinels.url, "again and again", awaited={True, False},
        CAPACITY=capacity, REFILL_TOKENS=rate, REFILL_INTERVAL="1s")
    assert allowed(old) and allowed(new)
    assert allowed(old) + allowed(new) <= capacity + rate * span(old + new)


def test_under_load_a_cluster_gives_a_capacity_more_and_twice_the_rate_at_most(stack, tmp_path):
    single = stack.enter_context(harness.redis_server())
    cluster = harness.RedisCluster(stack, tmp_path, node_timeout_ms=60_000)
    old, new = calls_while_instances_go_over(stack, single.url, cluster.url, "once", CAPACITY=300)
    assert allowed(old) == allowed(new) == 300
    rate, capacity = 5, 50
    old, new = calls_while_instances_go_over(
        stack, single.url, cluster.url, "again and again",
        CAPACITY=capacity, REFILL_TOKENS=rate, REFILL_INTERVAL="1s")
    # Both spans together are all the time and, once more, that in which both are asked.
    assert capacity <= allowed(old) <= capacity + rate * span(old)
    assert capacity <= allowed(new) <= capacity + rate * span(new)
