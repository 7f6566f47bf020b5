"""A fault, tried: several daemons over one Redis, under load before, while and after it
lasts, measured, and held to its bounds."""

import collections
import contextlib
import dataclasses
import math
import os
import pathlib
import sys
import threading
import time
import typing

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness
import stalls

import proxy

# REDIS_TIMEOUT, in seconds. A call waits at most that long for its turn, and that long for its
# reply. stalls.py measures how long a busy machine kept this process waiting; the margin is for
# the daemons, whose waits are not seen, and is smaller than its own.
TIMEOUT, MARGIN = 0.4, 0.5
WORST = 2 * TIMEOUT + MARGIN
# The longest time between two probes, and how long a readiness that did not fail
# lately takes to follow, as docs/operate/failures.md says; each with what the last probe or
# check may still wait for.
ANSWERS_WITHIN, READY_WITHIN = 2 + 2 * TIMEOUT + MARGIN, 3 + 2 * TIMEOUT + MARGIN
# A call that is not answered within that many seconds hangs.
HANGS = 15
DAEMONS, CALLERS = 2, 4  # So many callers for each daemon
BEAT = 0.02  # each of which calls so often, in seconds.
USERS = [f"user-{number}" for number in range(4)]  # Less than they ask for:
CAPACITY = 20
OK = ("allowed", "denied")

# gRPC keeps a thread for each call that ever waited at the same time as others.
MORE_THREADS = CALLERS + 2
# What the allocator keeps for more threads, each with an arena of its own, and for
# calls that waited; a leak of 2 kB a call would be more.
MORE_BYTES = 6 * 2**20


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is done and undone, each given the Rig, and the bounds that must hold."""
    name: str  # Its row in docs/operate/failures.md.
    do: typing.Callable
    undo: typing.Callable = lambda rig: None
    seconds: float = 0  # That it lasts between the two.
    errors: tuple = ("UNAVAILABLE",)  # What calls may get beside answers.
    fails: bool = True  # Whether some must get that.
    # It is daemons[0] alone that suffers: all others answer as ever.
    of_one: bool = False
    worst: float = WORST  # Of one answer, in seconds.
    from_start: bool = False  # It is done before the daemons start.
    interval_us: int = 20_000  # In which a token comes back to each user.
    redis: tuple = ()  # Words for redis-server.
    wrapper: tuple = ()  # What starts it.
    # Redis is a Cluster, or behind sentinels, and the way there is not spoilt.
    cluster: bool = False
    sentinels: bool = False
    limits: str = ""  # A limits file that names the capacity and the interval.
    more_threads: int = MORE_THREADS
    more_bytes: int = MORE_BYTES
    fast: bool = False  # Tried in the fast tier besides the first of each file.


class Answer(typing.NamedTuple):
    daemon: int
    user: str
    kind: str  # allowed, denied, or the status code.
    begun: float
    ended: float
    window_us: tuple  # The same by Redis's clock.

    @property
    def took(self):
        return self.ended - self.begun


class Resources(typing.NamedTuple):
    descriptors: int
    threads: int
    bytes: int


def resources(daemon) -> Resources:
    process = pathlib.Path(f"/proc/{daemon.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Resources(len(os.listdir(process / "fd")), int(status["Threads"]),
                     int(status["VmRSS"].split()[0]) * 1024)


def is_sanitized(daemon) -> bool:
    """Whether it was built with the address sanitizer, which keeps what is freed."""
    return "libasan" in pathlib.Path(f"/proc/{daemon.process.pid}/maps").read_text()


class Rig:
    """The processes, and the load on them."""

    def __init__(self, fault, directory, stack):
        self.fault, self.directory, self.stack = fault, directory, stack
        if fault.cluster:
            url = self._start_cluster()
        else:
            url = self._start_sentinels() if fault.sentinels else self._start_redis()
        self.answers, self.losses = [], []
        if fault.from_start:
            fault.do(self)
        settings = {"REDIS_URL": url, "REDIS_TIMEOUT": f"{TIMEOUT * 1000:.0f}ms"} | self._limits()
        self.daemons = [stack.enter_context(harness.daemon(**settings)) for _ in range(DAEMONS)]
        self.begun, self.over = time.monotonic(), threading.Event()
        stack.callback(self.over.set)
        self.callers = [threading.Thread(target=self._call, args=(number,))
                        for number in range(DAEMONS * CALLERS)]
        for caller in self.callers:
            caller.start()

    def _start_redis(self) -> str:
        self.redis = harness.Redis("--dir", self.directory, *self.fault.redis, wrapper=self.fault.wrapper)
        self.redis.start()
        self.stack.callback(lambda: harness.end(self.redis.process))
        self.proxy = self.stack.enter_context(proxy.proxy(self.redis.port))
        return f"redis://127.0.0.1:{self.proxy.port}"

    def _start_cluster(self) -> str:
        # Where no master fails, none is replaced because the machine is busy.
        self.cluster = harness.RedisCluster(
            self.stack, self.directory, node_timeout_ms=1_000 if self.fault.fails else 15_000)
        return self.cluster.url

    def _start_sentinels(self) -> str:
        self.sentinels = harness.Sentinels(self.stack, self.directory)
        return self.sentinels.url

    def _limits(self) -> dict:
        interval_ms = self.fault.interval_us // 1000
        if not self.fault.limits:
            return {"CAPACITY": CAPACITY, "REFILL_TOKENS": 1, "REFILL_INTERVAL": f"{interval_ms}ms"}
        file = self.directory / "limits.yaml"
        file.write_text(self.fault.limits.format(capacity=CAPACITY, interval_ms=interval_ms))
        return {"LIMITS_FILE": file}

    @property
    def alive(self) -> list:
        return [daemon for daemon in self.daemons if daemon.process.poll() is None]

    def _call(self, caller):
        number = caller % DAEMONS
        ask = self.daemons[number].channel.unary_unary("/limiter.RateLimiter/AllowRequest")
        request, response = (harness.message(f"AllowRequest{kind}") for kind in ("Request", "Response"))
        bodies = [request(user_id=user, path="/").SerializeToString() for user in USERS]
        turn, due = caller, time.monotonic()
        while not self.over.is_set():
            turn += 1
            which = turn % len(USERS)
            begun, begun_us = time.monotonic(), time.time_ns() // 1000
            try:
                allowed = response.FromString(ask(bodies[which], timeout=HANGS)).allowed
                kind = "allowed" if allowed else "denied"
            except grpc.RpcError as error:
                kind = error.code().name
            ended_us, ended = -(-time.time_ns() // 1000), time.monotonic()
            self.answers.append(Answer(number, USERS[which], kind, begun, ended, (begun_us, ended_us)))
            due = max(due + BEAT, ended)
            self.over.wait(due - ended)

    def answers_again(self, since) -> bool:
        """Whether the last calls to each daemon, all of them since then, were answered,
        and it says that it serves."""
        for number, daemon in enumerate(self.daemons):
            last = [a for a in list(self.answers) if a.daemon == number and a.begun >= since][-20:]
            if daemon in self.alive and (len(last) < 20 or not all(a.kind in OK for a in last) or
                                         daemon.health() != "SERVING"):
                return False
        return True

    def all_refused(self) -> bool:
        """Whether each user has been: no token is left over."""
        return {a.user for a in list(self.answers) if a.kind == "denied"} == set(USERS)

    def stop_load(self):
        self.over.set()
        for caller in self.callers:
            caller.join()

    @contextlib.contextmanager
    def lost(self):
        """Around what makes Redis lose its data."""
        begun = time.time_ns() // 1000
        yield
        self.losses.append((begun, -(-time.time_ns() // 1000)))

    def over_admitted(self, user, with_losses: bool) -> int:
        """By how much the fullest interval exceeds the bound. A call was decided between
        its beginning and its end, so that intervals from one's beginning to another's end
        hold at least what they are counted for."""
        windows = sorted(a.window_us for a in self.answers if a.user == user and a.kind == "allowed")
        over = 0
        for first, (start, _) in enumerate(windows):
            for count, end in enumerate(sorted(end for _, end in windows[first:]), 1):
                lost = sum(start <= back and gone <= end for gone, back in self.losses)
                bound = CAPACITY * (1 + with_losses * lost) + (end - start) // self.fault.interval_us
                over = max(over, count - bound)
        return over


def check_growth(rig, before):
    """That each daemon soon has no more than before the fault, within its bounds."""
    fault = rig.fault

    def grown():
        return [f"{name} of daemon {number}: {now}, {was} before"
                for number, daemon in enumerate(rig.daemons) if daemon in rig.alive
                for name, now, was, more in zip(
                    Resources._fields, resources(daemon), before[number],
                    (0, fault.more_threads, math.inf if is_sanitized(daemon) else fault.more_bytes))
                if now > was + more]
    with contextlib.suppress(AssertionError):
        harness.wait_until(lambda: not grown())
    assert not (more := grown()), more


def try_fault(fault, directory) -> dict:
    """Does and undoes it under load, and returns its row of the table. A bound that does not
    hold is an AssertionError; after a stall so long that calls fail or are late without a fault,
    all is tried again."""
    def prepare(number):
        home = directory / f"try-{number}"
        home.mkdir()
        return try_once(fault, home)

    return stalls.attempt(prepare, lambda tried: check(*tried), explains=TIMEOUT / 2)


def try_once(fault, directory) -> tuple:
    """The Rig as it ended, and when the fault was done, undone, and over. No stall excuses what
    is asserted here."""
    with contextlib.ExitStack() as stack:
        rig = Rig(fault, directory, stack)
        done, before = rig.begun, None
        if not fault.from_start:
            harness.wait_until(lambda: rig.answers_again(rig.begun) and rig.all_refused(),
                               what="answers before the fault, and empty buckets")
            before = [resources(daemon) for daemon in rig.daemons]
            done = time.monotonic()
            fault.do(rig)
        time.sleep(fault.seconds)
        fault.undo(rig)
        undone = time.monotonic()

        harness.wait_until(lambda: rig.answers_again(undone), timeout=READY_WITHIN + HANGS,
                           what="answers after the fault")
        ready = time.monotonic()
        time.sleep(0.5)  # In which nothing may fail.
        rig.stop_load()
        assert [daemon.health() for daemon in rig.alive] == ["SERVING"] * len(rig.alive)
        if before:
            check_growth(rig, before)
        for daemon in rig.alive:
            daemon.channel.close()  # Python does not hear that the server goes.
            assert daemon.terminate() == 0, daemon.log_text()
        assert max(rig.over_admitted(user, with_losses=True) for user in USERS) == 0
        return rig, done, undone, ready


def check(rig, done, undone, ready) -> dict:
    fault, answers, stall = rig.fault, rig.answers, stalls.longest(rig.begun)
    during = [a for a in answers if a.ended >= done and a.begun <= undone]
    after = [a for a in answers if a.begun > undone]
    concerned = [a for a in answers if not fault.of_one or a.daemon != 0]
    failed = [a for a in answers if a.kind not in OK]

    assert {a.kind for a in failed} <= set(fault.errors), collections.Counter(a.kind for a in answers)
    alive = [a for a in failed if rig.daemons[a.daemon].process.returncode == 0]
    assert all(done <= a.ended and a.begun <= ready for a in alive), "nothing fails before and after"
    if fault.fails:
        assert failed, "some calls met the fault"
    assert not fault.of_one or all(a.kind in OK for a in concerned), "no other daemon is concerned"
    of_interest = set(concerned)
    worst = max(a.took for a in concerned)
    assert worst <= fault.worst + stall, f"{worst} s, stalls {stall} s"
    # By whichever daemon: who comes at the wrong beat may be refused each time.
    assert any(a.kind == "allowed" for a in after), "nobody is locked out"

    answered = max((a.ended - undone for a in alive if a.ended > undone), default=0)
    assert answered <= ANSWERS_WITHIN + stall
    assert ready - undone <= READY_WITHIN + stall
    return {"fault": fault.name,
            "gets": collections.Counter(a.kind for a in during),
            "worst": max(a.took for a in during if a in of_interest),
            "worst after": max(a.took for a in after if a in of_interest),
            "answered": answered, "ready": ready - undone,
            "over": max(rig.over_admitted(user, with_losses=False) for user in USERS),
            "may": CAPACITY * len(rig.losses)}
