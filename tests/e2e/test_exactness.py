"""The product's promise, tried: several instances on one Redis together admit at
most capacity + floor(t * rate) over every interval of length t, and no less than
the bucket had to give.

Redis itself is the witness: MONITOR shows each admission's write, which holds the
time that the script read and what it left in the bucket.
"""

import collections
import contextlib
import dataclasses
import json
import random
import tempfile
import threading
import time

import pytest

import harness

CALLERS = 64
INSTANCES = 3


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
class Admission:
    """As the script wrote it; `level` is what it left, in parts of a token."""
    time_us: int
    level: int


class Witness:
    """Records every command that Redis runs, until `admissions` asks for them."""

    def __init__(self, redis, log):
        self.redis, self.log = redis, log
        self.process = harness.start(["redis-cli", "-p", redis.port, "MONITOR"], log)
        harness.wait_until(lambda: "OK" in self._text(), what="MONITOR")

    def _text(self) -> str:
        with open(self.log.name, encoding="utf-8") as text:
            return text.read()

    def admissions(self, limit) -> dict:
        """By key, in the order in which Redis took them."""
        self.redis.cli("ECHO", "the end")
        harness.wait_until(lambda: "the end" in self._text(), what="the end of MONITOR")
        by_key = collections.defaultdict(list)
        for line in self._text().splitlines():
            if ' lua] "HSET" ' not in line:
                continue
            words = [json.loads(word) for word in line.split("] ", 1)[1].split(" ")]
            _, key, _, tokens, _, time_us, _, part = words
            level = int(tokens) * limit.interval_us + int(part)
            by_key[key].append(Admission(int(time_us), level))
        return by_key


@contextlib.contextmanager
def fleet(limit):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(harness.redis_server())
        daemons = [stack.enter_context(harness.daemon(REDIS_URL=redis.url, **limit.settings()))
                   for _ in range(INSTANCES)]
        log = stack.enter_context(tempfile.NamedTemporaryFile(prefix="monitor-"))
        witness = Witness(redis, log)
        stack.callback(harness.end, witness.process)
        yield daemons, witness


def hammer(daemons, users, seconds) -> collections.Counter:
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
            answer = daemons[turn % len(daemons)].allow(user)
            counts[caller][user if answer["allowed"] else None] += 1

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts, collections.Counter())


def within_the_bound(admissions, limit) -> bool:
    """For every two admissions at once: of all intervals that end at one, the
    fullest is what a leaky bucket, raised by each, still holds."""
    level, before = 0, admissions[0].time_us
    for admission in admissions:
        level = max(level - (admission.time_us - before) * limit.refill_tokens, 0)
        level += limit.interval_us
        before = admission.time_us
        if level > limit.capacity * limit.interval_us:
            return False
    return True


def check_nothing_is_lost(admissions, limit):
    """Each admission left exactly what refill brought, less one token."""
    full = limit.capacity * limit.interval_us
    level, before = full, admissions[0].time_us
    for admission in admissions:
        assert admission.time_us >= before
        level = min(full, level + (admission.time_us - before) * limit.refill_tokens)
        level -= limit.interval_us
        assert admission.level == level
        before = admission.time_us


@pytest.mark.parametrize("limit", [Limit(5, 1, "2s", 2_000_000), Limit(50, 7, "30ms", 30_000)],
                         ids=["the default", "7 per 30ms"])
def test_one_user_through_three_instances(limit, record_property):
    with fleet(limit) as (daemons, witness):
        answers = hammer(daemons, ["user123"], seconds=4)
        by_key = witness.admissions(limit)
        (admissions,) = by_key.values()
        assert len(admissions) == answers["user123"], "every admission was answered, once"
        assert within_the_bound(admissions, limit)
        check_nothing_is_lost(admissions, limit)

        elapsed = admissions[-1].time_us - admissions[0].time_us
        had_to_give = limit.capacity + elapsed * limit.refill_tokens // limit.interval_us
        record_property("admitted", len(admissions))
        record_property("refused", answers[None])
        record_property("had to give", had_to_give)
        record_property("elapsed_us", elapsed)
        left = admissions[-1].level // limit.interval_us
        assert len(admissions) + left == had_to_give


def test_a_thousand_users_through_three_instances(record_property):
    limit = Limit(3, 1, "2s", 2_000_000)
    users = [f"user-{number}" for number in range(1_000)]
    with fleet(limit) as (daemons, witness):
        answers = hammer(daemons, users, seconds=8)
        by_key = witness.admissions(limit)
        assert answers[None] > 0
        for user in users:
            admissions = by_key.get(f"rl:1:{{{user}}}:default", [])
            assert len(admissions) == answers[user]
            if admissions:
                assert within_the_bound(admissions, limit)
                check_nothing_is_lost(admissions, limit)
        record_property("admitted", sum(map(len, by_key.values())))
        record_property("refused", answers[None])
        assert len(by_key) == sum(1 for user in users if answers[user])


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
        assert within_the_bound([Admission(time_us, 0) for time_us in times], limit) == promised
        verdicts[promised] += 1
    assert verdicts[True] > 100 and verdicts[False] > 100
