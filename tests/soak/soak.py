"""A small fleet under half of the load that it bears, for as many minutes as are given (60):
two daemons and their Redis, while the limits are read again, Redis is killed and comes back,
and one of the daemons is replaced. What the other one holds, memory, descriptors and threads,
must stay; what it counts must be what was sent; and nothing may fail but by those events.
Writes the figures into docs/operate/operations.md."""

import contextlib
import dataclasses
import datetime
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("e2e", "faults", "bench")]
import harness
import report
from rig import Resources, is_sanitized, resources

PAGE = ROOT / "docs" / "operate" / "operations.md"
USERS = 20_000
SECONDS = 30  # Of a round.
LIMITS = """
hash_by: global
limits:
  - {{name: each, capacity: {capacity}, refill: 10 per 1s}}
  - {{name: hot, path: /hot, capacity: 100, refill: 100 per 1s, by: []}}
"""
CAPACITIES = (50, 60)  # In turns, with each reload.
# Beside these nothing may come of a call.
MAY = {"quiet": set(), "limits read again": set(), "Redis killed": {"UNAVAILABLE"},
       "a daemon replaced": set()}
# Of each load, and calls of one at once. When the machine stands still, which makes half of
# what it bears too much, calls wait on the client's side, and take no memory of the daemon's.
CONNECTIONS, STREAMS = 4, 64
MORE = Resources(descriptors=2, threads=8, bytes=2 * 2**20)


@dataclasses.dataclass
class Round:
    event: str
    kept: dict  # What rlctl bench tells of the daemon that is kept,
    replaced: dict  # and of the other.
    resources: Resources  # Of the one that is kept, at the end.


class Fleet:
    def __init__(self, stack, directory: pathlib.Path):
        self.stack, self.limits, self.reloads = stack, directory / "limits.yaml", 0
        self._write_limits()
        self.redis = harness.Redis("--dir", directory, "--maxmemory", "1gb", "--maxmemory-policy", "noeviction")
        self.redis.start()
        stack.callback(lambda: harness.end(self.redis.process))
        self.kept = self._start()
        self.port = harness.free_port()
        self.replaced = self._start(PORT=self.port, DRAIN_TIME="1s")

    def _start(self, **settings):
        return self.stack.enter_context(harness.daemon(
            REDIS_URL=self.redis.url, LIMITS_FILE=self.limits, MAX_CONCURRENT_STREAMS=STREAMS, **settings))

    def _write_limits(self):
        new = self.limits.with_suffix(".new")
        new.write_text(LIMITS.format(capacity=CAPACITIES[self.reloads % len(CAPACITIES)]))
        new.rename(self.limits)

    def _reloaded(self) -> int:
        return self.kept.total("rate_limiter_config_reloads_total", result="success")

    def read_limits_again(self):
        self.reloads += 1
        before = self._reloaded()
        self._write_limits()
        harness.wait_until(lambda: self._reloaded() == before + 1, what="the reload")

    def kill_redis(self):
        self.redis.kill()
        self.redis.start()
        for daemon in (self.kept, self.replaced):
            harness.wait_until(lambda: daemon.health() == "SERVING" and
                               daemon.total("rate_limiter_breaker_open") == 0, 30, "readiness")

    def replace(self):
        # The other one is called meanwhile as well, and by nobody when it ends.
        assert self.replaced.terminate() == 0, self.replaced.log_text()
        self.replaced = self._start(PORT=self.port, DRAIN_TIME="1s")


def bench(daemon, *words) -> subprocess.Popen:
    return subprocess.Popen(
        [harness.RLCTL, "bench", "--target", daemon.address, "--users", str(USERS), "--zipf", "1.1",
         "--path", "/some", "--path", "/hot", "--timeout", "30s", "--warmup", "0", "--connections",
         str(CONNECTIONS), "--json", *words],
        stdout=subprocess.PIPE, text=True, env=harness.clean_environment())


def result_of(process) -> dict:
    text, _ = process.communicate(timeout=7200)
    return json.loads(text)


def crowd(fleet):
    """Has as many calls wait at once as ever may. gRPC keeps a thread for each, and the
    allocator what these have used: so that is held before it is looked at."""
    most = CONNECTIONS * STREAMS
    # Calls come over each connection in turn, whether or not others are answered: callers who
    # wait for their answers may all come to wait at one connection, and none at another.
    running = bench(fleet.kept, "--rate", "1000", "--duration", "60s")
    harness.wait_until(lambda: counted(fleet.kept)["allowed"], 30, "calls")
    fleet.redis.process.send_signal(signal.SIGSTOP)
    harness.wait_until(lambda: fleet.kept.total("rate_limiter_in_flight_calls") == most, 30, "the crowd")
    fleet.redis.process.send_signal(signal.SIGCONT)
    running.send_signal(signal.SIGINT)
    assert result_of(running)["errors"] == {}


def bearable(fleet) -> float:
    """Calls a second that each of the two answers while both are asked for all they can."""
    running = [bench(daemon, "--callers", "64", "--duration", "5s")
               for daemon in (fleet.kept, fleet.replaced)]
    return min(result_of(process)["calls_per_second"] for process in running)


def counted(daemon) -> dict:
    return {status: daemon.total("rate_limiter_requests_total", status=status)
            for status in ("allowed", "denied", "error")}


def play(fleet, event: str, rate: float, seconds: float) -> Round:
    """A round: load on both daemons, with the event in the middle."""
    # By a caller who stays for all rounds; the others are new in each.
    assert fleet.kept.allow("lasting", cost=0)["allowed"]
    before, words = counted(fleet.kept), ("--rate", str(int(rate)), "--duration", f"{seconds:.0f}s")
    on_kept = bench(fleet.kept, *words)
    # While a daemon is replaced nobody calls it: that is a balancer's part.
    on_replaced = None if event == "a daemon replaced" else bench(fleet.replaced, *words)
    time.sleep(seconds / 2)
    {"quiet": lambda: None, "limits read again": fleet.read_limits_again,
     "Redis killed": fleet.kill_redis, "a daemon replaced": fleet.replace}[event]()
    kept = result_of(on_kept)
    replaced = result_of(on_replaced) if on_replaced else {"errors": {}, "calls": 0}
    for result in (kept, replaced):
        assert set(result["errors"]) <= MAY[event], (event, result["errors"])
    counts = {name: now - before[name] for name, now in counted(fleet.kept).items()}
    assert counts == {"allowed": kept["allowed"], "denied": kept["denied"],
                      "error": sum(kept["errors"].values())}, (event, kept["errors"])
    return Round(event, kept, replaced, resources(fleet.kept))


def check_growth(rounds: list, more: Resources, sanitized: bool):
    """That what is held in the last third of the rounds is what was held in the first."""
    third = len(rounds) // 3
    for name, bound in zip(Resources._fields, more):
        first, last = (statistics.median(getattr(one.resources, name) for one in part)
                       for part in (rounds[:third], rounds[-third:]))
        if name == "bytes" and sanitized:
            continue  # Which keeps what is freed.
        assert last <= first + bound, f"{name}: {first} in the first third, {last} in the last"


def run(minutes: float, seconds: float, rate=None, more=MORE) -> list:
    """Rounds of so many seconds. `rate`, calls a second to each daemon, is half of what they
    bear unless it is given; `more` may be held at the end than at the beginning."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        fleet = Fleet(stack, pathlib.Path(directory))
        crowd(fleet)
        for event in MAY:  # Once, so that all that is held from then on has been taken.
            play(fleet, event, rate or bearable(fleet) / 2, seconds)
        rounds, end = [], time.monotonic() + minutes * 60
        while time.monotonic() < end:
            # Anew each time, for a machine that is lent bears more at one time than at another.
            now = rate or bearable(fleet) / 2
            for event in MAY:
                rounds.append(play(fleet, event, now, seconds))
                print(f"{event}: {rounds[-1].kept['calls']} calls, {rounds[-1].kept['errors']}, "
                      f"{rounds[-1].resources}", flush=True)
        check_growth(rounds, more, is_sanitized(fleet.kept))
        assert fleet.kept.terminate() == 0 and fleet.replaced.terminate() == 0
        return rounds


def table(rounds: list) -> list:
    rows = []
    for event in MAY:
        of_event = [one for one in rounds if one.event == event]
        errors = {}
        for one in of_event:
            for result in (one.kept, one.replaced):
                for code, count in result["errors"].items():
                    errors[code] = errors.get(code, 0) + count
        calls = sum(one.kept["calls"] + one.replaced["calls"] for one in of_event)
        p99 = statistics.median(one.kept["latency_us"]["p99"] for one in of_event)
        rows.append([event, str(len(of_event)), f"{calls:,}",
                     ", ".join(f"{count:,} {code}" for code, count in errors.items()) or "none",
                     f"{p99 / 1000:.1f}"])
    return report.markdown(["event", "rounds", "calls", "failed", "p99, ms"], rows)


def held(rounds: list) -> list:
    def at(one: Round) -> list:
        return [f"{one.resources.bytes / 2**20:.1f}", str(one.resources.descriptors), str(one.resources.threads)]
    chosen = [rounds[round(share * (len(rounds) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    return report.markdown(["of the time", "memory, MiB", "descriptors", "threads"],
                           [[f"{share} %", *at(one)] for share, one in zip((0, 25, 50, 75, 100), chosen)])


def main(minutes: float):
    rounds = run(minutes, SECONDS)
    rates = sorted(one.kept["calls"] / SECONDS for one in rounds)
    lines = [*table(rounds), "", *held(rounds), "",
             f"{minutes:.0f} minutes, {rates[0]:,.0f} to {rates[-1]:,.0f} calls a second to each daemon, "
             f"{datetime.date.today()}."]
    report.fill(PAGE, "figures", lines, "soak")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
