"""From one Redis to another, as docs/operations.md has it: what becomes of the buckets."""

import contextlib
import subprocess

import pytest

import harness

# Nothing comes back while a test runs.
LIMIT = {"CAPACITY": 10, "REFILL_TOKENS": 1, "REFILL_INTERVAL": "1d"}
USERS = [f"user-{number}" for number in range(20)]


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def daemon_of(stack, url):
    return stack.enter_context(harness.daemon(REDIS_URL=url, **LIMIT))


def used(daemon) -> list:
    return [daemon.usage(user)["requests_used"] for user in USERS]


def test_behind_sentinels_they_are_the_same_and_a_failover_keeps_them(stack, tmp_path):
    sentinels = harness.Sentinels(stack, tmp_path)
    before, after = daemon_of(stack, sentinels.master.url), daemon_of(stack, sentinels.url)
    # While the instances go over one by one, some ask by the one address and some by the other.
    for daemon in (before, after, before):
        for user in USERS:
            assert daemon.allow(user)["allowed"]
    assert used(before) == used(after) == [3] * len(USERS)

    harness.wait_until(lambda: sentinels.master.cli("WAIT", "1", "1000") == "1", what="the replica")
    assert sentinels.sentinels[0].cli("SENTINEL", "FAILOVER", "mymaster") == "OK"
    sentinels.await_failover()
    harness.wait_until(lambda: after.health() == "SERVING", 30, "readiness")
    # It may be that the sentinels are asked again only now.
    harness.wait_until(lambda: used(after) == [3] * len(USERS), what="the buckets")
    assert after.allow(USERS[0])["remaining"] == 6


def test_a_cluster_begins_with_full_buckets_or_with_what_was_copied(stack, tmp_path):
    single = stack.enter_context(harness.redis_server())
    cluster = harness.RedisCluster(stack, tmp_path)
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
    key = single.cli("KEYS", f"*{USERS[1]}*")
    there = cluster.owner(cluster.slot(key))
    assert abs(int(there.cli("PEXPIRETIME", key)) - int(single.cli("PEXPIRETIME", key))) < 60_000
