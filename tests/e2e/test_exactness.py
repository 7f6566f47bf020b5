"""The product's promise, tried: several instances on one Redis together admit at
most capacity + floor(t * rate) over every interval of length t, and no less than
the bucket had to give.

Redis itself is the witness: MONITOR shows what each run of the script was asked and
did, and what it wrote holds the time that it read and what it left.
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
    """One run of the script: the keys of each of its transactions, and what it wrote."""
    transactions: list
    begun_us: int  # It did not begin before.
    time_us: int = 0  # The time that it read; 0 where it wrote nothing.
    written: dict = dataclasses.field(default_factory=dict)  # By key: (tokens, part).


class Witness:
    """Records every command that Redis runs, until `runs` asks for them."""

    def __init__(self, redis, log):
        self.redis, self.log = redis, log
        self.process = harness.start(["redis-cli", "-p", redis.port, "MONITOR"], log)
        harness.wait_until(lambda: "OK" in self._text(), what="MONITOR")

    def _text(self) -> str:
        with open(self.log.name, encoding="utf-8") as text:
            return text.read()

    def runs(self) -> list:
        """Every run of the script, in the order of Redis."""
        self.redis.cli("ECHO", "the end")
        harness.wait_until(lambda: "the end" in self._text(), what="the end of MONITOR")
        # From Redis 7.2 on a script's time stands still, from before it is shown: 0.7 ms were
        # seen. But not from before what is shown above it.
        runs, transactions, begun_us, above_us = [], [], 0, 0
        for line in self._text().splitlines()[1:]:
            stamp, words = line.split("] ", 1)
            by_script = "lua" in stamp
            if by_script or words.startswith('"EVALSHA"'):
                words = [json.loads(word) for word in words.split(" ")]
            if words[0] == "EVALSHA":
                transactions, begun_us = transactions_of(words), above_us
            elif by_script and words == ["TIME"]:
                runs.append(Run(transactions, begun_us))
            elif by_script and words[0] == "HSET":
                _, key, _, tokens, _, time_us, _, part = words
                runs[-1].time_us = int(time_us)
                runs[-1].written[key] = int(tokens), int(part)
            above_us = int(stamp.split(" ")[0].replace(".", ""))
        return [run for run in runs if run.transactions != [[READINESS]]]


def transactions_of(evalsha) -> list:
    """The keys of each transaction that an EVALSHA is to decide."""
    count = int(evalsha[2])
    keys, arguments = evalsha[3:3 + count], evalsha[3 + count:]
    width = (len(arguments) - 1 - count) // 5  # As token_bucket.lua states it.
    assert arguments[0] == "peek" or set(arguments[-count:]) == {"1"}, "each costs one token"
    return [keys[first:first + width] for first in range(0, count, width)]


@contextlib.contextmanager
def fleet(**settings):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(harness.redis_server())
        daemons = [stack.enter_context(harness.daemon(REDIS_URL=redis.url, **settings)) for _ in range(INSTANCES)]
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


@dataclasses.dataclass
class Decided:
    admissions: dict  # By key: the times at which each token was taken.
    refused: int
    refused_by: collections.Counter  # By key: how often it lacked a token.

    def admitted(self, key) -> int:
        return len(self.admissions[key])


def check(runs, limit_of) -> Decided:
    """Never too much; and all that the buckets had to give: each run leaves what refill
    brought less one token of each bucket for each transaction all of whose buckets had
    one, in their order, and none is refused while each has one."""
    decided = Decided(collections.defaultdict(list), 0, collections.Counter())
    left = {}  # By key: what was left when it was last written, in parts, and when that was.
    for run in runs:
        now = run.time_us or run.begun_us
        levels, paid = {}, set()
        for key in {key for keys in run.transactions for key in keys}:
            limit = limit_of(key)
            full = limit.capacity * limit.interval_us
            level, before = left.get(key, (full, now))
            levels[key] = min(full, level + max(now - before, 0) * limit.refill_tokens)
        for keys in run.transactions:
            lacking = [key for key in keys if levels[key] < limit_of(key).interval_us]
            if lacking:
                decided.refused_by.update(lacking)
                decided.refused += 1
                continue
            assert run.written, "none is refused while a token is there"
            for key in keys:
                levels[key] -= limit_of(key).interval_us
                decided.admissions[key].append(now)
                paid.add(key)
        assert paid == set(run.written), "who pays is written, and nobody else"
        for key, (tokens, part) in run.written.items():
            assert tokens * limit_of(key).interval_us + part == levels[key]
            left[key] = levels[key], now
    for key, times in decided.admissions.items():
        assert within_the_bound(times, limit_of(key)), key
        assert times == sorted(times)
    return decided


# With the refusals that instances remember, and without.
CACHE = pytest.mark.parametrize("deny_cache", ["100ms", "0"], ids=["deny cache", "no deny cache"])


def check_refusals(decided, answers, deny_cache):
    if deny_cache == "0":
        assert decided.refused == answers[None]
    else:  # The rest were known without asking.
        assert 0 < decided.refused < answers[None]


@CACHE
@pytest.mark.parametrize("limit", [Limit(5, 1, "2s", 2_000_000), Limit(50, 7, "30ms", 30_000)],
                         ids=["the default", "7 per 30ms"])
def test_one_user_through_three_instances(limit, deny_cache, record_property):
    seconds = 4
    with fleet(DENY_CACHE_MAX_AGE=deny_cache, **limit.settings()) as (daemons, witness):
        answers = hammer(daemons, ["user123"], seconds)
        runs = witness.runs()
    decided = check(runs, lambda key: limit)
    assert decided.admitted("rl:1:default:{user123}") == answers["user123"]
    check_refusals(decided, answers, deny_cache)
    # And nobody is kept waiting: half of the time is a generous margin.
    rate = limit.refill_tokens / limit.interval_us * 1e6
    assert answers["user123"] >= limit.capacity + seconds / 2 * rate
    record_property("admitted", answers["user123"])
    record_property("refused", answers[None])
    record_property("transactions a run", sum(len(run.transactions) for run in runs) / len(runs))


@CACHE
def test_a_thousand_users_through_three_instances(deny_cache, record_property):
    limit = Limit(3, 1, "2s", 2_000_000)
    users = [f"user-{number}" for number in range(1_000)]
    with fleet(DENY_CACHE_MAX_AGE=deny_cache, **limit.settings()) as (daemons, witness):
        answers = hammer(daemons, users, seconds=8)
        runs = witness.runs()
    decided = check(runs, lambda key: limit)
    for user in users:
        assert decided.admitted(f"rl:1:default:{{{user}}}") == answers[user]
    assert len(decided.admissions) == len(users)
    assert max(len(run.transactions) for run in runs) > 1, "calls shared runs"
    check_refusals(decided, answers, deny_cache)
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


@CACHE
def test_three_limits_at_once_through_three_instances(tmp_path, deny_cache, record_property):
    """Each limit keeps its own bound, and no token is missing where another refused."""
    (tmp_path / "limits.yaml").write_text(LIMITS_FILE)
    users, paths = [f"user-{number}" for number in range(12)], ["/a", "/b", "/c"]
    with fleet(DENY_CACHE_MAX_AGE=deny_cache,
               LIMITS_FILE=tmp_path / "limits.yaml") as (daemons, witness):
        answers = hammer(daemons, users, seconds=6, paths=paths)
        runs = witness.runs()

    for run in runs:
        for keys in run.transactions:
            assert sorted(key.split(":")[2] for key in keys) == ["all", "path", "user"]
    decided = check(runs, lambda key: LIMITS[key.split(":")[2]])
    admitted = sum(decided.admitted(key) for key in decided.admissions if ":user:" in key)
    assert admitted == answers.total() - answers[None]
    check_refusals(decided, answers, deny_cache)
    refused_by = collections.Counter()
    for key, times in decided.refused_by.items():
        refused_by[key.split(":")[2]] += times
    assert set(refused_by) == set(LIMITS), "each limit refused at times"
    record_property("admitted", admitted)
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
