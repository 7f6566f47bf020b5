"""Measures the daemon, part by part (all, unless some are named), and writes what came
of it into docs/internals/performance.md and the README.

Machines are noisy, so that variants take turns in one run: believe the ratios, not the
figures. The load comes from the same machine. A run of fewer than 5 rounds is printed
alone.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re

from load import harness, require
from parts import PARTS, Plan
import report

RESULTS = harness.ROOT / "build" / "bench.json"
PUBLISHED_ROUNDS = 5


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else "unknown"


def describe_processor() -> str:
    return found(r"^model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())


def describe_machine() -> str:
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    memory = found(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    system = found(r'^PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text())
    grpc = harness.output_of("pkg-config", "--modversion", "grpc++").strip()
    redis = found(r"v=(\S+)", harness.output_of("redis-server", "--version"))
    kind = "A virtual machine" if "hypervisor" in cpu else "A machine"
    return (f"{kind}: {describe_processor()}, {len(os.sched_getaffinity(0))} cores, {int(memory) / 2**20:.0f} GiB; "
            f"Linux {platform.release()}, {system}, gRPC {grpc}, Redis {redis}. The load generators, "
            "the servers and Redis share it.")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=PUBLISHED_ROUNDS,
                        help="turns of each variant that count (%(default)s)")
    parser.add_argument("--calls", type=int, default=60_000,
                        help="calls a turn, where they are counted (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3,
                        help="a turn's length, where it is timed (%(default)s)")
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part}; there are {', '.join(PARTS)}")
    if arguments.rounds < 1 or arguments.calls < 10_000 or arguments.seconds < 0.5:
        parser.error("at least 1 round, 10000 calls and 0.5 seconds")
    return arguments


def main():
    arguments = parse_arguments()
    plan = Plan(arguments.rounds, arguments.calls, arguments.seconds)
    published = plan.rounds >= PUBLISHED_ROUNDS
    results = json.loads(RESULTS.read_text()) if published and RESULTS.exists() else {}
    processor, machine = describe_processor(), describe_machine()
    measured = []
    for part in arguments.parts or PARTS:
        result = {"rounds": plan.rounds, "date": str(datetime.date.today()),
                  "processor": processor, "machine": machine, "groups": PARTS[part](plan)}
        results[part] = result
        measured.append(part)
        print(f"\n## {part}\n", *report.table(part, result), sep="\n", flush=True)
        if published:  # Part by part: what a later one ends with loses none.
            RESULTS.write_text(json.dumps(results))
            report.publish(results, measured)
    print("\n## must reach\n", *report.must_reach(results, processor), sep="\n")


if __name__ == "__main__":
    main()
