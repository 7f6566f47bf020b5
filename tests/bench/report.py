"""Writes what was measured into the pages: tables, and whether each bound is reached.

A page keeps what its author wrote; only what stands between `<!-- bench: NAME -->`
and `<!-- /bench -->` is replaced.

Results are {part: {"rounds", "date", "processor", "machine", "groups"}}, where groups are
what parts.py gives. A ratio is formed turn by turn, of numbers that were measured one after
the other, and shown as the median of the turns with the least and the most.
"""

import dataclasses
import operator
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "internals" / "performance.md"
README = ROOT / "README.md"


def values(turns: list, key: str, base: list = None) -> list:
    """Each turn's number, divided by that of `base` if given."""
    if base is None:
        return [turn[key] for turn in turns]
    return [turn[key] / other[key] for turn, other in zip(turns, base, strict=True)]


def show(numbers: list, digits: int, spread=True) -> str:
    least, middle, most = (f"{number:,.{digits}f}" for number in
                           (min(numbers), statistics.median(numbers), max(numbers)))
    return f"{middle} ({least}–{most})" if spread and len(numbers) > 1 else middle


# --- Tables ---


@dataclasses.dataclass(frozen=True)
class Column:
    title: str
    key: str
    digits: int = 0
    base: str = None  # The variant that it is divided by.
    spread: bool = True
    of_redis: bool = False  # Has a meaning only where a decision asks Redis.

    def cell(self, group: dict, variant: str) -> str:
        if self.of_redis and not any(word in variant for word in ("Redis", "pool")):
            return "–"
        if self.key not in group[variant][0]:
            return "–"
        if self.base is None:
            return show(values(group[variant], self.key), self.digits, self.spread)
        if variant == self.base:
            return "1"
        return show(values(group[variant], self.key, group[self.base]), self.digits, self.spread)


@dataclasses.dataclass(frozen=True)
class Table:
    columns: list
    variant: str = "store"  # What a row is.
    group: str = None  # What rows are grouped by; None: there is one group.
    only: str = None  # The one group that is shown; None: all.

    def lines(self, groups: dict) -> list:
        titles = [self.group, self.variant, *(column.title for column in self.columns)]
        rows = [[name, variant, *(column.cell(group, variant) for column in self.columns)]
                for name, group in groups.items() if self.only in (None, name)
                for variant in group]
        if self.group is None:
            titles, rows = titles[1:], [row[1:] for row in rows]
        return markdown(titles, rows)


def row(cells: list) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(titles: list, rows: list) -> list:
    return [row(titles), "|" + "---|" * len(titles), *map(row, rows)]


OF_NOOP, OF_POOL = (Column(f"of {base}", "rate", 2, base) for base in ("no-op", "pool"))
SERVER_CPU = Column("server CPU µs", "server_cpu_us", 1, spread=False)
REDIS_CPU = Column("Redis CPU µs", "redis_cpu_us", 1, spread=False, of_redis=True)
CALLS, DECISIONS = Column("calls/s", "rate"), Column("decisions/s", "rate")
MEAN, P50, P99 = (Column(f"{name} µs", f"{name}_us") for name in ("mean", "p50", "p99"))

TABLES = {
    "calls": Table([CALLS, OF_NOOP, OF_POOL, MEAN, SERVER_CPU, REDIS_CPU], group="in flight"),
    "refused": Table([CALLS, OF_NOOP, SERVER_CPU, REDIS_CPU]),
    "workloads": Table([CALLS, OF_NOOP, OF_POOL, P50, P99, SERVER_CPU, REDIS_CPU], group="load"),
    "batch": Table([DECISIONS, Column("of redis-benchmark", "rate", 2, "redis-benchmark -P 16"),
                    Column("of memory, unary", "rate", 2, "memory, unary"), SERVER_CPU, REDIS_CPU],
                   variant="what"),
    "limits": Table([CALLS, Column("of one", "rate", 2, "1"), SERVER_CPU,
                     dataclasses.replace(REDIS_CPU, of_redis=False)], variant="limits a call"),
    "latency": Table([CALLS, P50, P99, Column("p99 of no-op", "p99_us", 2, "no-op"),
                      Column("sent late: p99 µs", "late_p99_us"), Column("at most µs", "late_max_us")],
                     only="half"),
    "overload": Table([Column("accepted calls/s", "rate"), Column("of 320", "rate", 2, "320"),
                       Column("p99 of accepted µs", "p99_us"),
                       Column("of 320", "p99_us", 2, "320"), Column("shed calls/s", "shed_rate")],
                      group="store", variant="callers"),
    "memory": Table([Column("bytes a bucket", "bytes", 1)], group="users"),
    "micro": Table([Column("CPU ns", "ns", 1)], variant="piece"),
}


def table(part: str, result: dict) -> list:
    """A part's table, and below it what is told of its run."""
    turns = {1: "One turn"}.get(result["rounds"], f"Medians of {result['rounds']} turns (least–most)")
    if part == "memory":
        turns = "One fill"
    return [*TABLES[part].lines(result["groups"]), "",
            f"{turns}, {result['date']}, {result['processor']}."]


# --- What must be reached ---


@dataclasses.dataclass(frozen=True)
class Bound:
    """A median of `variant`'s, divided by `base`'s if given, against a bound."""

    what: str
    part: str
    group: str
    variant: str
    key: str
    holds: str  # "≥" or "≤"
    bound: float
    base: str = None

    def numbers(self, result: dict) -> list:
        group = result["groups"][self.group]
        return values(group[self.variant], self.key, group[self.base] if self.base else None)

    def limit(self) -> str:
        return f"{self.holds} {self.bound:g}"

    def measured(self, results: dict) -> str:
        if self.part not in results:
            return "–"
        numbers = self.numbers(results[self.part])
        compare = {"≥": operator.ge, "≤": operator.le}[self.holds]
        reached = compare(statistics.median(numbers), self.bound)
        return f"{'✓' if reached else '**✗**'} {show(numbers, 2 if self.base else 1)}"


BOUNDS = [
    Bound("Redis, 320 in flight: calls/s of no-op", "calls", "320", "Redis", "rate", "≥", 0.75, "no-op"),
    Bound("Redis, 320 in flight: calls/s of pool", "calls", "320", "Redis", "rate", "≥", 1.4, "pool"),
    Bound("Redis, 32 in flight: calls/s of no-op", "calls", "32", "Redis", "rate", "≥", 0.65, "no-op"),
    Bound("Redis, 32 in flight: calls/s of pool", "calls", "32", "Redis", "rate", "≥", 1.2, "pool"),
    Bound("one caller: mean wait of pool over that of Redis", "calls", "1", "pool", "mean_us", "≥",
          0.95, "Redis"),
    Bound("memory, 320 in flight: calls/s of no-op", "calls", "320", "memory", "rate", "≥", 0.92, "no-op"),
    Bound("refused hot key on Redis: calls/s of no-op", "refused", "320", "Redis", "rate", "≥", 0.92,
          "no-op"),
    Bound("batch of 100 on Redis: decisions/s of redis-benchmark -P 16", "batch", "batch", "Redis",
          "rate", "≥", 0.9, "redis-benchmark -P 16"),
    Bound("batch of 100 in memory: decisions/s of unary in memory", "batch", "batch", "memory", "rate",
          "≥", 25, "memory, unary"),
    Bound("Redis, 320 in flight: Redis's CPU a decision of pool's (one EVALSHA a round trip)", "calls",
          "320", "Redis", "redis_cpu_us", "≤", 0.4, "pool"),
    Bound("three limits a call on Redis: calls/s of one", "limits", "320", "3", "rate", "≥", 0.7, "1"),
    Bound("bytes a bucket in Redis, ids of 11 bytes", "memory", "ids of 11 bytes", "Redis", "bytes",
          "≤", 180),
    Bound("bytes a bucket in memory, ids of 11 bytes", "memory", "ids of 11 bytes", "memory", "bytes",
          "≤", 120),
    Bound("Redis at half of its saturating rate: p99 of no-op's", "latency", "half", "Redis", "p99_us",
          "≤", 2.5, "no-op"),
    *(bound for store in ("Redis", "memory") for bound in (
        Bound(f"{store}, 3,200 callers: accepted calls/s of 320's", "overload", store, "3,200", "rate",
              "≥", 0.85, "320"),
        Bound(f"{store}, 3,200 callers: p99 of accepted of 320's", "overload", store, "3,200", "p99_us",
              "≤", 3, "320"))),
]


def must_reach(results: dict, processor: str, before: str = "") -> list:
    """The bounds, and what was measured on each kind of processor: other ones, and parts
    without results of this one, keep the cells that they have in `before`."""
    lines = [line.strip("| ").split(" | ") for line in before.splitlines() if line.startswith("| ")]
    processors = lines[0][2:] if lines else []
    kept = {what: dict(zip(processors, cells)) for what, _, *cells in lines[1:]}
    results = {part: result for part, result in results.items() if result["processor"] == processor}
    processors = sorted({*processors, processor})
    rows = []
    for bound in BOUNDS:
        cells = kept.get(bound.what, {})
        if bound.part in results:
            cells[processor] = bound.measured(results)
        rows.append([bound.what, bound.limit(), *(cells.get(name, "–") for name in processors)])
    return markdown(["what", "must be", *processors], rows)


def machines(processor: str, machine: str, before: str = "") -> list:
    """What was measured on: `machine`, and those of other processors that `before` has."""
    return sorted([*(line for line in before.splitlines() if line and processor not in line),
                   f"- {machine}"])


def summary(result: dict) -> list:
    """A few figures for the README."""
    return Table([CALLS, OF_NOOP, SERVER_CPU, REDIS_CPU], variant="320 calls in flight",
                 only="320").lines({"320": {store: turns for store, turns
                                            in result["groups"]["320"].items() if store != "pool"}})


# --- Pages ---


def block(page: pathlib.Path, name: str, command="bench") -> re.Match:
    found = re.search(rf"(?<=<!-- {command}: {name} -->\n).*?(?=<!-- /{command} -->)", page.read_text(), re.DOTALL)
    if found is None:
        raise SystemExit(f"{command}: {page} has no place <!-- {command}: {name} --> … <!-- /{command} -->")
    return found


def fill(page: pathlib.Path, name: str, lines: list, command="bench"):
    place, text = block(page, name, command), page.read_text()
    page.write_text(text[:place.start()] + "\n" + "\n".join(lines) + "\n\n" + text[place.end():])


def publish(results: dict, measured: list):
    """Writes the parts that were just `measured`, and what follows from all results."""
    for part in measured:
        fill(PAGE, part, table(part, results[part]))
    last = results[measured[-1]]
    fill(PAGE, "machine", machines(last["processor"], last["machine"], block(PAGE, "machine")[0]))
    fill(PAGE, "must-reach", must_reach(results, last["processor"], block(PAGE, "must-reach")[0]))
    if "calls" in measured:
        fill(README, "summary", summary(results["calls"]))
