"""What is measured, part by part. A part is one run: its variants take turns, and only
numbers of one part are ever divided by each other.

Each gives {group: {variant: [the numbers of each turn]}}.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile

from load import (batch_request, grpc_load, grpc_load_at, harness, in_turns, measure,
                  redis_benchmark, request, require)

# Room for all that is taken here, and a token comes back so late that no bucket is full
# again before its next call: each finds one, pays, and writes it.
CAPACITY, REFILL_INTERVAL_S = 10_000_000, 300
LIMIT = {"CAPACITY": CAPACITY, "REFILL_INTERVAL": f"{REFILL_INTERVAL_S}s"}
# One that is empty after the first call.
EMPTY = {"CAPACITY": 1, "REFILL_INTERVAL": "30d"}
PATHS = f"""
limits:
  - {{name: login, path: /login, capacity: {CAPACITY}, refill: 1 per {REFILL_INTERVAL_S}s}}
  - {{name: refused, path: /refused, capacity: 1, refill: 1 per 30d}}
"""
# So many that hardly two of the calls in flight are by the same one, for a bucket is
# read and written once for all calls of it in a run of the script.
USERS = 100_000
BATCH = 100
BUCKETS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Plan:
    rounds: int  # Turns that count.
    calls: int  # A turn's, where they are counted.
    seconds: float  # A turn's length, where it is timed.


def evalsha(sha1: str, key: str, capacity=CAPACITY, refill=1,
            interval_us=1_000_000 * REFILL_INTERVAL_S, cost=1) -> list:
    """A decision as the daemon sends it, for a key that the daemon does not use: the
    name of the three numbers, the longest there is, is not that of these."""
    return ["EVALSHA", sha1, "1", key, "take", str(capacity), str(refill), str(interval_us),
            "2147483647", "0", str(cost)]


def load_script(redis) -> str:
    return redis.cli("SCRIPT", "LOAD", (harness.ROOT / "src/redis/token_bucket.lua").read_text())


def user(number: int) -> str:
    return f"user-{number:06}"


def requests_of(count: int, path="/login") -> list:
    """A request of each of so many users."""
    return [request(user(number), path) for number in range(count)]


class Bench:
    """Servers that a part starts, all ended with it, around one Redis."""

    def __init__(self, stack):
        self.directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.redis = stack.enter_context(harness.redis_server())
        self._stack = stack

    def file(self, name: str, text: str) -> pathlib.Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def start(self, store: str, **settings):
        """A server over a store by its name in the tables. It waits for Redis for so long
        that a moment in which the machine stands still fails no call."""
        settings.setdefault("REDIS_TIMEOUT", "2s")
        if store == "no-op":
            settings["program"] = harness.BUILD / "bin" / "noop_server"
        elif store == "pool":
            settings["program"] = harness.BUILD / "bin" / "pool_server"
        elif store == "memory":
            settings["STORE"] = "memory"
        return self._stack.enter_context(harness.daemon(REDIS_URL=self.redis.url, **settings))

    def turns(self, what: str, loads: dict, rounds: int) -> dict:
        """In turns, `loads`: name: (server, load, and keywords of measure)."""
        return in_turns(what, {name: self.turn(*load) for name, load in loads.items()}, rounds)

    def turn(self, server, load, expected=None):
        return lambda: measure(server, self.redis, load, **(expected or {}))


@contextlib.contextmanager
def bench():
    with contextlib.ExitStack() as stack:
        yield Bench(stack)


STORES = ["no-op", "pool", "Redis", "memory"]


def calls(plan: Plan) -> dict:
    """Unary calls, all allowed, by many users."""
    with bench() as b:
        servers = {store: b.start(store, **LIMIT) for store in STORES}
        requests = requests_of(USERS)
        groups = {}
        for in_flight in (1, 32, 320):
            load = grpc_load(requests, in_flight, plan.calls // (10 if in_flight == 1 else 1))
            groups[str(in_flight)] = b.turns(
                f"calls, {in_flight} in flight",
                {store: (server, load) for store, server in servers.items()}, plan.rounds)
        return groups


def refused(plan: Plan) -> dict:
    """One user whose bucket is empty."""
    with bench() as b:
        load = grpc_load(requests_of(1), 320, plan.calls)
        loads = {"no-op": (b.start("no-op", **LIMIT), load)}
        servers = {"Redis": b.start("Redis", **EMPTY),
                   "Redis, DENY_CACHE_MAX_AGE=0": b.start("Redis", DENY_CACHE_MAX_AGE="0", **EMPTY),
                   "memory": b.start("memory", **EMPTY)}
        for name, server in servers.items():
            server.allow(user(0), "/login")
            loads[name] = (server, load, {"denied": 1.0})
        return {"320": b.turns("refused", loads, plan.rounds)}


def workloads(plan: Plan) -> dict:
    """Users and paths as they may be."""
    few, refused_ones = requests_of(1_000), requests_of(1_000, "/refused")
    kinds = {"all allowed": (grpc_load(few, 320, plan.calls), 0),
             "half refused": (grpc_load(few + refused_ones, 320, plan.calls), 0.5),
             "Zipf over 1,000,000 users": (
                 grpc_load(zipf_requests(1_000_000, 1.1), 320, plan.calls, "turns"), 0),
             "one hot key": (grpc_load(requests_of(1), 320, plan.calls), 0)}
    with bench() as b:
        limits = b.file("limits.yaml", PATHS)
        servers = {store: b.start(store, LIMITS_FILE=limits) for store in STORES}
        for server in servers.values():  # Empties the buckets that are to refuse.
            grpc_load(refused_ones, 320, len(refused_ones), "turns")(server)
        return {kind: b.turns(f"workloads, {kind}",
                              {store: (server, load, {"denied": 0 if store == "no-op" else denied})
                               for store, server in servers.items()}, plan.rounds)
                for kind, (load, denied) in kinds.items()}


def zipf_requests(users: int, exponent: float) -> list:
    """Requests by users of whom the i-th comes in proportion to 1/i^exponent."""
    weights = itertools.accumulate((number + 1) ** -exponent for number in range(users))
    sample = random.Random(1).choices(range(users), cum_weights=list(weights), k=USERS)
    return [request(user(number)) for number in sample]


def batch(plan: Plan) -> dict:
    """AllowRequests of 100 requests, each by another user."""
    with bench() as b:
        # The ids that redis-benchmark makes, so that its keys are as long.
        ids = [f"{number:012}" for number in range(USERS)]
        batches = [batch_request(ids[first:first + BATCH]) for first in range(0, USERS, BATCH)]
        load, more = (grpc_load(batches, 32, plan.calls // part, method="AllowRequests", batch=BATCH)
                      for part in (20, 5))
        memory = b.start("memory", **LIMIT)
        unary = grpc_load([request(one) for one in ids], 320, plan.calls)
        script = evalsha(load_script(b.redis), "rl:0:default:{__rand_int__}")
        loads = {
            "Redis": b.turn(b.start("Redis", **LIMIT), load),
            "redis-benchmark -P 16": lambda: redis_benchmark(b.redis, 5 * plan.calls, USERS, script),
            "memory": b.turn(memory, more),
            "memory, unary": b.turn(memory, unary)}
        return {"batch": in_turns("batch", loads, plan.rounds)}


def limits(plan: Plan) -> dict:
    """Unary calls on Redis that are subject to 1, 3 and 10 limits."""
    with bench() as b:
        load = grpc_load(requests_of(USERS), 320, plan.calls)
        loads = {}
        for count in (1, 3, 10):
            file = b.file(f"{count}.yaml", "limits:\n" + "".join(
                f"  - {{name: limit-{number}, capacity: {CAPACITY}, refill: 1 per {REFILL_INTERVAL_S}s}}\n"
                for number in range(count)))
            loads[str(count)] = (b.start("Redis", LIMITS_FILE=file), load)
        return {"320": b.turns("limits", loads, plan.rounds)}


def latency(plan: Plan) -> dict:
    """At half the rate that saturates Redis's daemon, whatever the answers do (open loop)."""
    with bench() as b:
        # Calls come on while the machine stands still for a moment: room for those, too.
        servers = {store: b.start(store, MAX_IN_FLIGHT=2_000, **LIMIT) for store in ("no-op", "Redis")}
        requests = requests_of(USERS)
        saturating = b.turns("latency, saturating",
                             {"Redis": (servers["Redis"], grpc_load(requests, 320, plan.calls))},
                             plan.rounds)
        rate = int(statistics.median(turn["rate"] for turn in saturating["Redis"]) / 2)
        load = grpc_load_at(rate, requests, 2 * plan.seconds)
        half = b.turns(f"latency at {rate} calls/s",
                       {store: (server, load) for store, server in servers.items()}, plan.rounds)
        return {"saturating": saturating, "half": half}


def overload(plan: Plan) -> dict:
    """Callers far beyond capacity, each waiting as long as it is told to when it is shed."""
    with bench() as b:
        groups = {}
        messages = requests_of(USERS)
        for store in ("Redis", "memory"):
            server = b.start(store, **LIMIT)
            # Long beside the moment in which all call at once for the first time.
            loads = {f"{callers:,}": (server, grpc_load(messages, callers, 4 * plan.calls, shed=True),
                                      {"shed": True})
                     for callers in (320, 3_200)}
            groups[store] = b.turns(f"overload, {store}", loads, plan.rounds)
        return groups


def memory(_: Plan) -> dict:
    """Bytes of one of a million buckets."""
    own = {row["name"].split("/")[1]: row["bytes"] for row in pieces_of("store_bench", "AMillionBuckets")}
    forms = {"ids of 11 bytes": ("user-{0:06}", "ids_of_11_bytes"),
             "UUIDs": ("{0:08x}-0000-4000-8000-{0:012x}", "uuids")}
    return {name: {"Redis": [{"bytes": redis_bytes_a_bucket(form)}], "memory": [{"bytes": own[case]}]}
            for name, (form, case) in forms.items()}


def redis_bytes_a_bucket(form: str) -> float:
    """Fills Redis through the script itself, as the daemon would."""
    with harness.redis_server() as redis:
        sha1 = load_script(redis)
        before = used_memory(redis)
        # First they are emptied by so much that none is full again before the end, then
        # each pays once more: by then a part of a token has come that may be any number.
        # They get a token in two seconds, by intervals of two seconds to an hour.
        for cost in (100, 1):
            fill(redis, (evalsha(sha1, f"rl:1:default:{{{form.format(number)}}}", 120, refill,
                                 2_000_000 * refill, cost)
                         for number, refill in enumerate(refills())))
        require(redis.cli("DBSIZE") == str(BUCKETS), f"Redis holds {redis.cli('DBSIZE')} buckets")
        return (used_memory(redis) - before) / BUCKETS


def refills():
    chance = random.Random(1)
    return (chance.randint(1, 1_800) for _ in range(BUCKETS))


def fill(redis, commands):
    pipe = subprocess.Popen(["redis-cli", "-p", str(redis.port), "--pipe"], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for words in commands:
        pipe.stdin.write(f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n"
                                                        for word in words))
    output, _ = pipe.communicate()
    require("errors: 0," in output, f"redis-cli --pipe: {output}")


def used_memory(redis) -> int:
    return int(re.search(r"used_memory:(\d+)", redis.cli("INFO", "memory"))[1])


def micro(plan: Plan) -> dict:
    """The pieces, by Google Benchmark."""
    print("micro", file=sys.stderr)
    pieces = {}
    for program in ("store_bench", "service_bench"):
        for row in pieces_of(program, "-AMillionBuckets", f"--benchmark_repetitions={plan.rounds}",
                             "--benchmark_enable_random_interleaving=true",
                             "--benchmark_min_time=0.1"):
            if row["run_type"] == "iteration":
                pieces.setdefault(row["name"], []).append({"ns": row["cpu_time"]})
    return {"pieces": {name: pieces[name] for name in sorted(pieces)}}


def pieces_of(program: str, select: str, *flags) -> list:
    output = harness.output_of(harness.BUILD / "bin" / program, "--benchmark_format=json",
                               f"--benchmark_filter={select}", *flags)
    rows = json.loads(output)["benchmarks"]
    require(rows and not any(row.get("error_occurred") for row in rows), f"{program}: {output}")
    return rows


PARTS = {part.__name__: part for part in
         (calls, refused, workloads, batch, limits, latency, memory, micro, overload)}
