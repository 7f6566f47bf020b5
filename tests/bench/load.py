"""Makes load, and measures what it costs. Every turn is checked: what was not answered,
or came out otherwise than expected, ends the run.

Three generators, each on the same machine as the servers: grpc_load where calls are
counted, for it costs least; `rlctl bench` where the time of sending matters;
redis-benchmark for what Redis can do alone.
"""

import csv
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness

# Calls in flight, by connections and streams of each.
IN_FLIGHT = {1: (1, 1), 32: (4, 8), 320: (8, 40)}


def require(holds: bool, complaint: str):
    if not holds:
        raise SystemExit(f"bench: {complaint}")


def in_turns(what: str, variants: dict, rounds: int) -> dict:
    """Measures each of `variants` (name: function that gives one turn's numbers) once a
    turn; gives name: turns. The first turn warms up. Every second one goes backwards,
    so that a machine that grows slower favours none."""
    turns = {name: [] for name in variants}
    for turn in range(rounds + 1):
        print(f"{what}: {f'turn {turn} of {rounds}' if turn else 'warm-up'}", file=sys.stderr)
        for name in list(variants)[::-1 if turn % 2 else 1]:
            numbers = variants[name]()
            if turn > 0:
                turns[name].append(numbers)
    return turns


# --- The generators: each gives `decisions`, how many were made, and `rate`, a second ---


def grpc_load(messages: list, in_flight: int, calls: int, order="random", method="AllowRequest",
              batch=1):
    """A load of so many calls, each of `batch` decisions, with `messages` at random, the
    same ones in every turn, or in turns."""
    connections, streams = IN_FLIGHT[in_flight]
    bodies = tempfile.NamedTemporaryFile(prefix="bench-")
    for message in messages:
        text = message.SerializeToString()
        bodies.write(struct.pack(">I", len(text)) + text)
    bodies.flush()

    def run(server) -> dict:
        words = {"port": server.port, "method": f"/limiter.RateLimiter/{method}",
                 "connections": connections, "streams": streams, "calls": calls,
                 "bodies": bodies.name, "order": order}
        report = json.loads(harness.output_of(
            harness.BUILD / "bin" / "grpc_load", *(f"--{name}={word}" for name, word in words.items())))
        require(report["ok"] == calls, f"grpc_load: of {calls} calls ended {report['by_status']}")
        return {"decisions": calls * batch, "rate": report["calls_per_second"] * batch,
                **latencies(report)}

    return run


def latencies(report: dict) -> dict:
    return {f"{name}_us": value for name, value in report["latency_us"].items()}


def request(user: str, path="/login"):
    """The message of a call of AllowRequest."""
    return harness.message("AllowRequestRequest")(user_id=user, path=path)


def batch_request(users: list):
    """The message of a call of AllowRequests."""
    return harness.message("AllowRequestsRequest")(requests=[request(user) for user in users])


def rlctl_bench(seconds: float, *flags, callers=320, rate=None, shed=False):
    """A load for so many seconds, by callers that each wait for their answer, or at a
    rate. `shed`: calls may be refused with RESOURCE_EXHAUSTED; decisions and rate are
    those of the others."""
    pace = ["--rate", rate] if rate else ["--callers", callers]
    words = ["--duration", f"{1000 * seconds:.0f}ms", "--warmup", "500ms", "--json",
             "--connections", max(1, callers // 40), "--path", "/login", *pace, *flags]

    def run(server) -> dict:
        report = json.loads(harness.output_of(harness.RLCTL, "bench", *map(str, words),
                                              env=harness.clean_environment(PORT=server.port)))
        errors = {code: count for code, count in report["errors"].items() if count}
        require(not errors or (shed and set(errors) == {"RESOURCE_EXHAUSTED"}),
                f"rlctl bench: calls failed: {errors}")
        return {"decisions": report["allowed"] + report["denied"],
                "rate": report["decisions_per_second"],
                "shed_rate": sum(errors.values()) / report["duration_seconds"],
                "lag_us": report["max_send_lag_us"], **latencies(report)}

    return run


def redis_benchmark(redis, requests: int, users: int, script: list) -> dict:
    """A turn of one script, pipelined by 16. `__rand_int__` in it is one of so many users."""
    errors = redis_errors(redis)
    output = harness.output_of("redis-benchmark", "-p", str(redis.port), "-P", "16", "-r", str(users),
                               "-n", str(requests), "--csv", *script)
    require(redis_errors(redis) == errors, "redis-benchmark: Redis replied errors")
    [row] = csv.DictReader(output.splitlines())
    return {"decisions": requests, "rate": float(row["rps"])}


def redis_errors(redis) -> int:
    return int(re.search(r"total_error_replies:(\d+)", redis.cli("INFO", "stats"))[1])


# --- A turn ---


def cpu_seconds(process) -> float:
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def decided(server) -> dict:
    """Requests that the server has decided, by status."""
    counts = {"allowed": 0, "denied": 0, "error": 0}
    for sample in server.samples("rate_limiter_requests_total"):
        counts[sample.labels["status"]] += int(sample.value)
    return counts


def measure(server, redis, load, denied=0.0, shed=False) -> dict:
    """One turn: what `load` gives, and the CPU time of a decision in microseconds, the
    server's and Redis's. By the server's own count, `denied` is the share of decisions
    that must be refusals."""
    processes = {"server_cpu_us": server.process, "redis_cpu_us": redis.process}
    count = decided(server)
    cpu = {name: cpu_seconds(process) for name, process in processes.items()}
    turn = load(server)
    cpu = {name: cpu_seconds(process) - cpu[name] for name, process in processes.items()}
    count = {status: now - count[status] for status, now in decided(server).items()}
    answered = count["allowed"] + count["denied"]
    require(shed or count["error"] == 0, f"the server counted {count}")
    require(answered >= turn["decisions"], f"{turn['decisions']} decisions came, by the server {count}")
    off = 0.02 if 0 < denied < 1 else 0  # Which are refused may be left to chance.
    require(abs(count["denied"] - denied * answered) <= off * answered,
            f"of all decisions {denied:.0%} should be refusals; the server counted {count}")
    return turn | {name: 1e6 * used / answered for name, used in cpu.items()}
