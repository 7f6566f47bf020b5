"""Measures the daemon: calls a second, CPU a call, and the memory of a bucket.

Machines are noisy, so that the variants take turns in one run: believe the
ratios, not the figures. The load comes from h2load, on the same machine.
"""

import argparse
import contextlib
import os
import pathlib
import re
import statistics
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness

# All is allowed, so that every call pays for its write.
LIMIT = {"CAPACITY": 1_000_000, "REFILL_TOKENS": 1_000_000, "REFILL_INTERVAL": "1s"}
IN_FLIGHT = {1: (1, 1), 32: (4, 8), 320: (8, 40)}  # By connections and streams of each.
BUCKETS = 1_000_000


def cpu_seconds(process) -> float:
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_frame() -> bytes:
    request_type = harness.message("AllowRequestRequest")
    message = request_type(user_id="user-000001", path="/login").SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


def h2load(port, calls, in_flight, body) -> tuple:
    """Calls a second, and the mean wait of a call in microseconds."""
    connections, streams = IN_FLIGHT[in_flight]
    done = subprocess.run(
        ["h2load", "-n", str(calls), "-c", str(connections), "-m", str(streams), "-d", body,
         "-H", "content-type: application/grpc", "-H", "te: trailers",
         f"http://127.0.0.1:{port}/limiter.RateLimiter/AllowRequest"],
        capture_output=True, text=True, check=True)
    if f"{calls} succeeded" not in done.stdout:
        raise SystemExit(f"h2load: not all calls were answered:\n{done.stdout}")
    rate = float(re.search(r"([\d.]+) req/s", done.stdout)[1])
    mean, unit = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", done.stdout).groups()
    return rate, float(mean) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


@contextlib.contextmanager
def request_body():
    with tempfile.NamedTemporaryFile() as body:
        body.write(request_frame())
        body.flush()
        yield body.name


def take_turns(servers, redis, body, in_flight, calls, rounds) -> dict:
    """The medians of each server: calls a second, the mean wait of a call, and CPU a call
    of the server and of Redis, in microseconds."""
    rows = {name: [] for name in servers}
    for turn in range(rounds + 1):  # The first turn warms up.
        for name, server in servers.items():
            before = cpu_seconds(server.process), cpu_seconds(redis.process)
            rate, mean = h2load(server.port, calls, in_flight, body)
            after = cpu_seconds(server.process), cpu_seconds(redis.process)
            if turn > 0:
                rows[name].append((rate, mean, *(1e6 * (b - a) / calls
                                                 for a, b in zip(before, after))))
    return {name: tuple(map(statistics.median, zip(*turns))) for name, turns in rows.items()}


def require_that_all_were_allowed(server):
    errors = [line for line in server.metrics().splitlines()
              if 'status="allowed"' not in line and re.match(r"rate_\S+requests_total.* [1-9]", line)]
    if errors:
        raise SystemExit(f"not all calls were allowed: {errors}")


def measure_calls(rounds, calls):
    with contextlib.ExitStack() as stack:
        body = stack.enter_context(request_body())
        redis = stack.enter_context(harness.redis_server())
        noop = harness.BUILD / "bin" / "noop_server"
        servers = {
            "no-op": stack.enter_context(harness.daemon(program=noop, **LIMIT)),
            "memory": stack.enter_context(harness.daemon(STORE="memory", **LIMIT)),
            "redis": stack.enter_context(harness.daemon(REDIS_URL=redis.url, **LIMIT)),
        }
        print("| in flight | store | calls/s | of no-op | mean wait µs | server CPU µs/call |"
              " Redis CPU µs/call |\n|---|---|---|---|---|---|---|")
        for in_flight in IN_FLIGHT:
            number = calls // 10 if in_flight == 1 else calls
            medians = take_turns(servers, redis, body, in_flight, number, rounds)
            for name, (rate, mean, server_cpu, redis_cpu) in medians.items():
                shown = f"{redis_cpu:.1f}" if name == "redis" else "–"
                print(f"| {in_flight} | {name} | {rate:,.0f} | {rate / medians['no-op'][0]:.2f} |"
                      f" {mean:,.0f} | {server_cpu:.1f} | {shown} |", flush=True)
        require_that_all_were_allowed(servers["redis"])


def measure_limits(rounds, calls):
    """Calls on Redis that are subject to 1, 3 and 10 limits."""
    with contextlib.ExitStack() as stack:
        body = stack.enter_context(request_body())
        redis = stack.enter_context(harness.redis_server())
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        for count in (1, 3, 10):
            file = directory / f"{count}.yaml"
            file.write_text("limits:\n" + "".join(
                f"  - {{name: limit-{number}, capacity: 1000000, refill: 1000000 per 1s}}\n"
                for number in range(count)))
            servers[count] = stack.enter_context(
                harness.daemon(REDIS_URL=redis.url, LIMITS_FILE=file))
        print("\n| limits a call | calls/s, 320 in flight | of one | server CPU µs/call |"
              " Redis CPU µs/call |\n|---|---|---|---|---|")
        medians = take_turns(servers, redis, body, 320, calls, rounds)
        for count, (rate, _, server_cpu, redis_cpu) in medians.items():
            print(f"| {count} | {rate:,.0f} | {rate / medians[1][0]:.2f} | {server_cpu:.1f} |"
                  f" {redis_cpu:.1f} |", flush=True)
            require_that_all_were_allowed(servers[count])


def measure_redis_memory():
    """Fills Redis through the script itself, as the daemon would, by pipe."""
    script = (harness.ROOT / "src" / "redis" / "token_bucket.lua").read_bytes()
    ids = {"ids of 11 bytes": "user-{0:06}", "UUIDs": "{0:08x}-0000-4000-8000-{0:012x}"}
    print(f"\n| {BUCKETS:,} buckets in Redis | bytes each |\n|---|---|")
    for name, form in ids.items():
        with harness.redis_server() as redis:
            sha1 = redis.cli("SCRIPT", "LOAD", script.decode())
            used = used_memory(redis)
            pipe = subprocess.Popen(["redis-cli", "-p", str(redis.port), "--pipe"],
                                    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            for number in range(BUCKETS):
                key = f"rl:1:default:{{{form.format(number)}}}"
                words = ["EVALSHA", sha1, "1", key, "take", "5", "1", "3600000000",
                         "1371763753", "1", "0"]
                command = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
                pipe.stdin.write(f"*{len(words)}\r\n{command}".encode())
            pipe.stdin.close()
            pipe.wait()
            if redis.cli("DBSIZE") != str(BUCKETS):
                raise SystemExit(f"Redis holds {redis.cli('DBSIZE')} buckets")
            print(f"| {name} | {(used_memory(redis) - used) / BUCKETS:.0f} |", flush=True)


def used_memory(redis) -> int:
    return int(re.search(r"used_memory:(\d+)", redis.cli("INFO", "memory"))[1])


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server")
    parser.add_argument("--calls", type=int, default=100_000, help="calls a turn")
    arguments = parser.parse_args()
    measure_calls(arguments.rounds, arguments.calls)
    measure_limits(arguments.rounds, arguments.calls)
    measure_redis_memory()
    print(flush=True)
    subprocess.run([harness.BUILD / "bin" / "store_bench"], check=True)


if __name__ == "__main__":
    main()
