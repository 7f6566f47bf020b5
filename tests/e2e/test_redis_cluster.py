"""A Redis Cluster of three masters and three replicas."""

import collections
import contextlib
import re
import signal
import threading
import time

import grpc
import pytest

import harness

# Each refusal is Redis's own, and what is asked of it can be counted.
EXACT = {"DENY_CACHE_MAX_AGE": "0"}

# A request pays from two buckets: of its user, and of its user and path.
LIMITS = """
limits:
  - {name: user, capacity: 20, refill: 1 per 30d}
  - {name: path, path: "/x/*", by: [user, path], capacity: 5, refill: 1 per 30d}
"""


@pytest.fixture
def cluster(tmp_path):
    with contextlib.ExitStack() as stack:
        # No master is replaced because the machine is busy.
        yield harness.RedisCluster(stack, tmp_path, node_timeout_ms=60_000)


@pytest.fixture
def failing_over(tmp_path):
    with contextlib.ExitStack() as stack:
        yield harness.RedisCluster(stack, tmp_path)


@pytest.fixture
def limits(tmp_path):
    (tmp_path / "limits.yaml").write_text(LIMITS)
    return {"LIMITS_FILE": tmp_path / "limits.yaml"}


def wait_until_serving(daemon, timeout=15.0):
    harness.wait_until(lambda: daemon.health() == "SERVING", timeout, what="SERVING")


def answered(daemon, user) -> bool:
    """Whether a call is, and not told that Redis is away."""
    try:
        assert daemon.allow(user)["allowed"]
        return True
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        return False


def runs(node) -> int:
    """How many buckets a server looked at for clients of its own."""
    found = re.search(r"^cmdstat_hmget:calls=(\d+)", node.cli("INFO", "commandstats"), re.MULTILINE)
    return int(found[1]) if found else 0


def keys(node) -> set:
    return set(node.cli("KEYS", "rl:*").splitlines())


def user_of(cluster, node) -> str:
    """One whose slot a node has."""
    return next(user for user in map(str, range(1000))
                if cluster.owner(cluster.slot(f"{{{user}}}")) is node)


def test_users_are_spread_over_the_masters(cluster, limits):
    with harness.daemon(REDIS_URL=cluster.url, LOG_FORMAT="text", **limits, **EXACT) as daemon:
        hosts = ",".join(map(cluster.address, cluster.masters))
        assert f", store redis at Cluster {hosts}, 2 limits" in daemon.start_line
        wait_until_serving(daemon)
        answers = [daemon.allow("user", "/x/1", details=True) for _ in range(6)]
        assert [answer["allowed"] for answer in answers] == [True] * 5 + [False]
        requests = [{"user_id": f"user-{number}", "path": "/x/1"} for number in range(300)]
        for remaining in (4, 3):
            results = daemon.call("AllowRequests", requests=requests)["results"]
            assert {result["code"] for result in results} == {0}
            assert {result["response"]["remaining"] for result in results} == {remaining}
        # Both keys of a user are on one master, and each has about a third of them.
        assert all(150 <= len(keys(node)) <= 250 for node in cluster.masters)
        assert sum(len(keys(node)) for node in cluster.masters) == 602
        assert daemon.terminate() == 0


def test_one_node_is_enough_to_find_the_others(cluster):
    away = harness.free_port()
    url = f"redis-cluster://127.0.0.1:{away},{cluster.address(cluster.nodes[5])}"
    with harness.daemon(REDIS_URL=url) as daemon:
        for number in range(20):
            assert daemon.allow(f"user-{number}")["remaining"] == 4


def test_what_is_no_cluster_is_said():
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=f"redis-cluster://127.0.0.1:{redis.port}") as daemon:
        error = harness.error_of(daemon.allow, "user")
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "is no node of a Redis Cluster: name it by redis://" in error.details()
        assert daemon.health() == "NOT_SERVING"


def test_a_user_with_a_password(cluster, limits):
    """Who may do no more than docs/operate/failures.md says, also where keys are brought together."""
    page = (harness.ROOT / "docs" / "operate" / "failures.md").read_text(encoding="utf-8")
    given = [line for line in page.splitlines() if line.startswith("`~rl:") or line.startswith("`+cluster")]
    everywhere, of_a_node = (line.strip("`.").split() for line in given)
    assert "+migrate" in of_a_node
    rights = [right for right in everywhere if right != "+select"] + of_a_node
    for node in cluster.nodes:
        node.cli("ACL", "SETUSER", "me", "on", ">p@ss/w", *rights)
        node.cli("ACL", "SETUSER", "default", "+@all")
    with harness.daemon(REDIS_URL=cluster.url.replace("//", "//me:p@ss/w@"), **limits, **EXACT) as daemon:
        assert daemon.allow("user", "/x/1")["remaining"] == 4
        source, target = cluster.open_slot(cluster.slot("{user}"))
        assert "user=me" in source.cli("CLIENT", "LIST")
        assert daemon.allow("user", "/x/2", details=True)["limits"][0]["remaining"] == 18
        assert keys(target) == {"rl:1:user:{user}", "rl:1:path:{user}:/x/2"}


# --- Slots that move ---


class Callers:
    """Calls on threads, to two daemons, until a `with` ends: one after the other for each
    user and path."""

    def __init__(self, daemons, users, paths, each=2):
        self.answers, self.errors = collections.Counter(), []
        self._daemons, self._users, self._paths = daemons, users, paths
        self._lock, self._over = threading.Lock(), False
        self._threads = [threading.Thread(target=self._run, args=(daemon, number))
                         for daemon in daemons for number in range(each)]

    def _run(self, daemon, turn):
        while not self._over:
            turn += 1
            user = self._users[turn % len(self._users)]
            path = self._paths[turn // len(self._users) % len(self._paths)]
            try:
                allowed = daemon.allow(user, path).get("allowed", False)
            except grpc.RpcError as error:
                with self._lock:
                    self.errors.append(error)
                continue
            with self._lock:
                self.answers[user, path, allowed] += 1

    def admitted(self, user) -> int:
        with self._lock:
            return sum(count for (who, _, allowed), count in self.answers.items() if who == user and allowed)

    def count(self) -> int:
        with self._lock:
            return self.answers.total()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        for thread in self._threads:
            thread.join()


def test_a_slot_that_stays_half_moved_fails_no_call(cluster, limits):
    """Each call pays from two buckets, of which some are at the one master, some at the
    other, and most nowhere."""
    slot = cluster.slot("{user}")
    settings = {"REDIS_URL": cluster.url, **limits, **EXACT}
    with harness.daemon(**settings) as one, harness.daemon(**settings) as other:
        assert one.allow("user", "/x/before")["remaining"] == 4
        source, target = cluster.open_slot(slot)
        # What the source has it decides, and may write anew, as after other numbers.
        bucket = "rl:1:path:{user}:/x/before"
        (numbers,) = set(source.cli("HKEYS", bucket).splitlines()) - {"tokens", "time"}
        source.cli("HDEL", bucket, numbers)
        source.cli("HSET", bucket, "1", "0")
        assert one.allow("user", "/x/before")["remaining"] == 3
        assert set(source.cli("HKEYS", bucket).splitlines()) == {"tokens", "time", numbers}
        assert keys(target) == set()
        for node in (source, target):
            node.cli("SCRIPT", "FLUSH")
        with Callers([one, other], ["user"], ["/x/before"] + [f"/x/{n}" for n in range(6)]) as calls:
            harness.wait_until(lambda: calls.admitted("user") == 20 - 2, what="all that may pass")
            before = calls.count()
            harness.wait_until(lambda: calls.count() > before + 500, 60, what="more calls")
        assert not calls.errors
        assert calls.admitted("user") == 20 - 2
        assert all(calls.answers["user", path, True] <= 5 for path in ("/x/0", "/x/5"))
        assert "rl:1:user:{user}" in keys(target) - keys(source)
        for usage in (one.usage("user"), other.usage("user")):
            assert usage["requests_used"] == 20
        # And it may go on from there.
        cluster.close_slot(slot, source, target)
        assert one.usage("user")["requests_used"] == 20
        assert not one.allow("user", "/x/new").get("allowed", False)
        assert [daemon.terminate() for daemon in (one, other)] == [0, 0]


def test_slots_that_move_under_load_fail_no_call(cluster, limits):
    users = [f"user-{number}" for number in range(8)]
    settings = {"REDIS_URL": cluster.url, **limits, **EXACT}
    with harness.daemon(**settings) as one, harness.daemon(**settings) as other:
        with Callers([one, other], users, [f"/x/{n}" for n in range(10)]) as calls:
            for _ in range(2):
                for user in users:
                    slot = cluster.slot(f"{{{user}}}")
                    cluster.close_slot(slot, *cluster.open_slot(slot))
            harness.wait_until(lambda: all(calls.admitted(user) >= 20 for user in users), 20,
                               what="all that may pass")
        assert not calls.errors
        assert {calls.admitted(user) for user in users} == {20}
        assert [daemon.terminate() for daemon in (one, other)] == [0, 0]


# --- Masters that fail ---


def test_a_dead_master_fails_its_own_users_alone(failing_over):
    cluster = failing_over
    for node in cluster.nodes:  # That nobody takes its place, and that the others go on.
        node.cli("CONFIG", "SET", "cluster-replica-no-failover", "yes")
        node.cli("CONFIG", "SET", "cluster-require-full-coverage", "no")
    dead, *alive = cluster.masters
    theirs, others = user_of(cluster, dead), [user_of(cluster, node) for node in alive]
    with harness.daemon(REDIS_URL=cluster.url, CAPACITY=1000) as daemon:
        wait_until_serving(daemon)
        dead.kill()
        for _ in range(20):
            error = harness.error_of(daemon.allow, theirs)
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            for user in others:
                assert daemon.allow(user)["allowed"]
        assert "circuit breaker open for" in error.details()
        assert f"Redis at {cluster.address(dead)}" in error.details()
        (sample,) = daemon.samples("rate_limiter_breaker_open")
        assert sample.value == 1
        # It can decide for as many as any other instance.
        assert daemon.health() == "SERVING"
        dead.start()
        harness.wait_until(lambda: answered(daemon, theirs), 20, what="its return")
        assert daemon.terminate() == 0


def test_a_failover_heals(failing_over):
    cluster = failing_over
    old = cluster.masters[0]
    user = user_of(cluster, old)
    slot = cluster.slot(f"{{{user}}}")
    with harness.daemon(REDIS_URL=cluster.url, CAPACITY=1000, REFILL_INTERVAL="30d") as daemon:
        assert daemon.allow(user)["allowed"]
        old.kill()
        killed = time.monotonic()
        harness.wait_until(lambda: answered(daemon, user), 40, what="the failover")
        print(f"allowed again {time.monotonic() - killed:.1f} s after the master's death")
        new = cluster.owner(slot)
        assert new is not old
        old.start()
        wait_until_serving(daemon)
        for _ in range(100):
            assert answered(daemon, user)
        # But for a probe's look, which it refused.
        assert runs(old) == 0
        assert daemon.terminate() == 0


def test_a_master_that_wakes_up_replaced_gets_nothing(failing_over):
    cluster = failing_over
    old = cluster.masters[0]
    user = user_of(cluster, old)
    slot = cluster.slot(f"{{{user}}}")

    with harness.daemon(REDIS_URL=cluster.url, CAPACITY=1000, REFILL_INTERVAL="30d",
                        REDIS_TIMEOUT="2s") as daemon:
        assert answered(daemon, user)
        old.process.send_signal(signal.SIGSTOP)
        try:
            harness.wait_until(lambda: answered(daemon, user), 40, what="the failover")
        finally:
            old.process.send_signal(signal.SIGCONT)
        # What it had been sent before it stood still it may do now.
        harness.wait_until(lambda: "role:slave" in old.cli("INFO", "replication"), 20,
                           what="its demotion")
        before = runs(old)
        for _ in range(100):
            assert answered(daemon, user)
        assert runs(old) == before
        assert cluster.owner(slot) is not old
        assert daemon.terminate() == 0
