"""The product's promise, tried: several instances on one Redis together admit at
most capacity + floor(t * rate) over every interval of length t, and no less than
the bucket had to give.

Redis itself is the witness: MONITOR shows what each run of the script did, and each
admission's write holds the time that the script read and what it left.
"""

import collections
import contextlib
import dataclasses
import json
import random
import tempfile
import time

import pytest

import harness

CALLERS = 64
INSTANCES = 3
# What readiness looks at every second: no user's bucket.
READINESS = "rl:1:check:"
# From Redis 7.2 on a script's time stands still, from a moment that can lie before the
# stamp of the line that MONITOR shows above it (0.6 us were seen with Redis 8).
SLACK_US = 50


@dataclasses.dataclass
class Limit:
    capacity: int
    refill_tokens: int
    refill_interval: str
    interval_us: int

    def settings(self) -> dict:
        return {"CAPACITY": self.capacity, "REFILL_TOKENS": self.refill_tokens,
                "REFILL_INTERVAL": self.refill_interval}


@dataclasses.dataclass
class Run:
    """One run of the script: what it wrote if it admitted; for a refusal, which
    writes nothing, a time before which it did not begin."""
    admitted: bool
    time_us: int
    level: int = 0  # Left in the bucket, in parts of a token.


class Witness:
    """Records every command that Redis runs, until `runs` asks for them."""

    def __init__(self, redis, log):
        self.redis, self.log = redis, log
        self.process = harness.start(["redis-cli", "-p", redis.port, "MONITOR"], log)
        harness.wait_until(lambda: "OK" in self._text(), what="MONITOR")

    def _text(self) -> str:
        with open(self.log.name, encoding="utf-8") as text:
            return text.read()

    def transactions(self, limit_of) -> list:
        """Every run of the script by the keys it was given, in the order of Redis, which
        shows a command when it is done. `limit_of` a key tells its limit."""
        self.redis.cli("ECHO", "the end")
        harness.wait_until(lambda: "the end" in self._text(), what="the end of MONITOR")
        transactions = []
        before = 0
        for line in self._text().splitlines()[1:]:
            stamp, words = line.split("] ", 1)
            now = int(stamp.split(" ")[0].replace(".", ""))
            words = [json.loads(word) for word in words.split(" ")] if "lua" in stamp else [None]
            if words == ["TIME"]:
                begun = before - SLACK_US
                transactions.append({})
            elif words[0] == "HMGET":
                transactions[-1][words[1]] = Run(False, begun)
            elif words[0] == "HSET":
                _, key, _, tokens, _, time_us, _, part = words
                level = int(tokens) * limit_of(key).interval_us + int(part)
                transactions[-1][key] = Run(True, int(time_us), level)
            before = now
        return [keys for keys in transactions if READINESS not in keys]

    def runs(self, limit_of) -> dict:
        """The same by key."""
        by_key = collections.defaultdict(list)
        for keys in self.transactions(limit_of):
            for key, run in keys.items():
                by_key[key].append(run)
        return by_key


@contextlib.contextmanager
def fleet(**settings):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(harness.redis_server())
        daemons = [stack.enter_context(harness.daemon(
            REDIS_URL=redis.url, REDIS_TIMEOUT="20s", **settings))  # No call may fail.
                   for _ in range(INSTANCES)]
        log = stack.enter_context(tempfile.NamedTemporaryFile(prefix="monitor-"))
        witness = Witness(redis, log)
        stack.callback(harness.end, witness.process)
        yield daemons, witness


def hammer(daemons, users, seconds, paths=("/",)) -> collections.Counter:
    """CALLERS callers at once, each calling all daemons in turn. How often each
    user was allowed; under None how often any was refused."""
    stop_at = time.monotonic() + seconds
    counts = [collections.Counter() for _ in range(CALLERS)]

    def call(caller):
        choose = random.Random(caller)
        for turn in range(caller, 2**31):
            if time.monotonic() > stop_at:
                return
            user = choose.choice(users)
            answer = daemons[turn % len(daemons)].allow(user, choose.choice(paths), timeout=30)
            counts[caller][user if answer["allowed"] else None] += 1

    harness.at_once(call, CALLERS)
    return sum(counts, collections.Counter())


def within_the_bound(times, limit) -> bool:
    """For every two admissions at once: of all intervals that end at one, the
    fullest is what a leaky bucket, raised by each, still holds."""
    level, before = 0, times[0]
    for now in times:
        level = max(level - (now - before) * limit.refill_tokens, 0) + limit.interval_us
        before = now
        if level > limit.capacity * limit.interval_us:
            return False
    return True


def check(runs, limit):
    """Never too much; and all that the bucket had to give: each admission leaves what
    refill brought less one token, and none is refused while a token is there."""
    admissions = [run.time_us for run in runs if run.admitted]
    assert within_the_bound(admissions, limit)
    assert admissions == sorted(admissions)
    full = limit.capacity * limit.interval_us
    level, before = full, admissions[0]
    for run in runs:
        elapsed = max(run.time_us - before, 0)
        refilled = min(full, level + elapsed * limit.refill_tokens)
        if run.admitted:
            level, before = refilled - limit.interval_us, run.time_us
            assert run.level == level
        else:
            assert refilled < limit.interval_us


@pytest.mark.parametrize("limit", [Limit(5, 1, "2s", 2_000_000), Limit(50, 7, "30ms", 30_000)],
                         ids=["the default", "7 per 30ms"])
def test_one_user_through_three_instances(limit, record_property):
    with fleet(**limit.settings()) as (daemons, witness):
        answers = hammer(daemons, ["user123"], seconds=4)
        (runs,) = witness.runs(lambda key: limit).values()
    check(runs, limit)
    assert answers == {"user123": sum(run.admitted for run in runs),
                       None: sum(not run.admitted for run in runs)}
    record_property("admitted", answers["user123"])
    record_property("refused", answers[None])


def test_a_thousand_users_through_three_instances(record_property):
    limit = Limit(3, 1, "2s", 2_000_000)
    users = [f"user-{number}" for number in range(1_000)]
    with fleet(**limit.settings()) as (daemons, witness):
        answers = hammer(daemons, users, seconds=8)
        by_key = witness.runs(lambda key: limit)
    assert answers[None] > 0
    for user in users:
        runs = by_key.pop(f"rl:1:default:{{{user}}}", [])
        assert sum(run.admitted for run in runs) == answers[user]
        if runs:
            check(runs, limit)
    assert not by_key
    record_property("admitted", answers.total() - answers[None])
    record_property("refused", answers[None])


# About as tight as each other for twelve users and three paths, so that each refuses.
LIMITS = {"user": Limit(4, 3, "300ms", 300_000), "path": Limit(10, 7, "200ms", 200_000),
          "all": Limit(20, 1, "9ms", 9_000)}
LIMITS_FILE = """
hash_by: global
limits:
  - {name: user, by: [user], capacity: 4, refill: 3 per 300ms}
  - {name: path, by: [path], capacity: 10, refill: 7 per 200ms}
  - {name: all, by: [], capacity: 20, refill: 1 per 9ms}
"""


def test_three_limits_at_once_through_three_instances(tmp_path, record_property):
    """Each limit keeps its own bound, and no token is missing where another refused."""
    (tmp_path / "limits.yaml").write_text(LIMITS_FILE)
    users, paths = [f"user-{number}" for number in range(12)], ["/a", "/b", "/c"]

    def limit_of(key):
        return LIMITS[key.split(":")[2]]

    with fleet(LIMITS_FILE=tmp_path / "limits.yaml") as (daemons, witness):
        answers = hammer(daemons, users, seconds=6, paths=paths)
        transactions = witness.transactions(limit_of)

    levels = {}  # By key: what was left when it was last written, and when that was.
    admissions = collections.defaultdict(list)
    refused_by = collections.Counter()
    for keys in transactions:
        assert sorted(key.split(":")[2] for key in keys) == ["all", "path", "user"]
        admitted = {run.admitted for run in keys.values()}
        assert len(admitted) == 1, "all pay, or none does"
        lacking = []
        for key, run in keys.items():
            limit = limit_of(key)
            full = limit.capacity * limit.interval_us
            level, before = levels.get(key, (full, run.time_us))
            refilled = min(full, level + max(run.time_us - before, 0) * limit.refill_tokens)
            if run.admitted:
                assert run.level == refilled - limit.interval_us, "no more and no less is taken"
                levels[key] = (run.level, run.time_us)
                admissions[key].append(run.time_us)
            elif refilled < limit.interval_us:
                lacking.append(key.split(":")[2])
        if not admitted.pop():
            assert lacking, "a call is refused only where a limit has no token"
            refused_by.update(lacking)
    for key, times in admissions.items():
        assert within_the_bound(times, limit_of(key)), key
    assert set(refused_by) == set(LIMITS), "each limit refused at times"
    assert len(transactions) == answers.total()
    record_property("admitted", answers.total() - answers[None])
    record_property("refused", dict(refused_by))


def test_the_check_is_the_promise_for_every_pair_of_admissions():
    choose = random.Random(1)
    limit = Limit(2, 3, "500us", 500)
    verdicts = collections.Counter()
    for _ in range(2_000):
        times = sorted(choose.randrange(0, 2_000, 10) for _ in range(8))
        promised = all(
            last - first + 1 <= limit.capacity +
            (times[last] - times[first]) * limit.refill_tokens // limit.interval_us
            for last in range(len(times)) for first in range(last + 1))
        assert within_the_bound(times, limit) == promised
        verdicts[promised] += 1
    assert verdicts[True] > 100 and verdicts[False] > 100
