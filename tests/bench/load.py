"""Makes load, and measures what it costs. Every turn is checked: what was not answered,
or came out otherwise than expected, ends the run.

Two generators, on the same machine as the servers: grpc_load, for it costs least; and
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
IN_FLIGHT = {1: (1, 1), 32: (4, 8), 320: (8, 40), 3_200: (80, 40)}


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
              batch=1, shed=False):
    """A load of so many calls, each of `batch` decisions, with `messages` at random, the
    same ones in every turn, or in turns. So many are in flight all the time (closed loop).
    `shed`: some may be refused with RESOURCE_EXHAUSTED; who is waits as told, and calls
    anew. The numbers are those of the others."""
    connections, streams = IN_FLIGHT[in_flight]
    bodies = file_of(messages)

    def run(server) -> dict:
        report = run_grpc_load(server, bodies, calls, method=method, order=order,
                               connections=connections, streams=streams)
        refused = report["by_status"].get("8", 0)
        require(shed or refused == 0, f"grpc_load: {refused} calls were shed")
        return {"decisions": calls * batch, "rate": report["calls_per_second"] * batch,
                "shed_rate": refused / report["seconds"], **latencies(report)}

    return run


def grpc_load_at(rate: int, messages: list, seconds: float):
    """A load of AllowRequest with `messages` at random, sent at a rate whatever the answers
    do (open loop), for about so many seconds, on the connections of 320 in flight."""
    connections, _ = IN_FLIGHT[320]
    bodies, calls = file_of(messages), int(rate * seconds)

    def run(server) -> dict:
        report = run_grpc_load(server, bodies, calls, connections=connections, rate=rate)
        return {"decisions": calls, "rate": report["calls_per_second"], **latencies(report),
                "late_p99_us": report["late_us"]["p99"], "late_max_us": report["late_us"]["max"]}

    return run


def file_of(messages: list):
    """A file as grpc_load reads it, which is gone with what is returned."""
    file = tempfile.NamedTemporaryFile(prefix="bench-")
    for message in messages:
        text = message.SerializeToString()
        file.write(struct.pack(">I", len(text)) + text)
    file.flush()
    return file


def run_grpc_load(server, bodies, calls: int, method="AllowRequest", order="random", **pace) -> dict:
    """What grpc_load reports."""
    words = {"port": server.port, "method": f"/limiter.RateLimiter/{method}",
             "bodies": bodies.name, "order": order, "calls": calls, **pace}
    report = json.loads(harness.output_of(
        harness.BUILD / "bin" / "grpc_load", *(f"--{name}={word}" for name, word in words.items())))
    require(report["ok"] == calls, f"grpc_load: of {calls} calls ended {report['by_status']}")
    return report


def latencies(report: dict) -> dict:
    return {f"{name}_us": value for name, value in report["latency_us"].items()}


def request(user: str, path="/login"):
    """The message of a call of AllowRequest."""
    return harness.message("AllowRequestRequest")(user_id=user, path=path)


def batch_request(users: list):
    """The message of a call of AllowRequests."""
    return harness.message("AllowRequestsRequest")(requests=[request(user) for user in users])


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
