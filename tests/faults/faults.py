"""Tries every fault, or those whose names contain one of the words given, and writes what
came of it into docs/operate/failures.md; faults that were not tried keep their rows."""

import datetime
import importlib
import pathlib
import sys

import pytest

import rig

sys.path.insert(0, str(rig.harness.ROOT / "tests" / "bench"))
import report
from bench import describe_machine

PAGE = rig.harness.ROOT / "docs" / "operate" / "failures.md"
HERE = pathlib.Path(__file__).parent
TITLES = ["fault", "calls during it", "slowest answer, s", "slowest afterwards, s",
          "all calls answered after, s", "ready after, s", "admitted beyond the limit"]


def all_faults() -> list:
    modules = [importlib.import_module(file.stem) for file in sorted(HERE.glob("test_*.py"))]
    return [fault for module in modules for fault in module.FAULTS]


def shares(gets) -> str:
    return ", ".join(f"{kind} {max(100 * count / gets.total(), 1):.0f} %" for kind, count in gets.most_common())


def row(result: dict) -> str:
    over = str(result["over"])
    if result["may"]:
        over += f" of {result['may']} allowed"
    return report.row([result["fault"], shares(result["gets"]), f"{result['worst']:.2f}",
                       f"{result['worst after']:.2f}", f"{result['answered']:.1f}",
                       f"{result['ready']:.1f}", over])


def written_rows() -> dict:
    """The rows of the page, by fault."""
    lines = report.block(PAGE, "table", "faults")[0].splitlines()
    return {line.split(" | ")[0][2:]: line for line in lines if line.startswith("| ")}


def publish(results: list):
    rows = written_rows() | {result["fault"]: row(result) for result in results}
    names = [fault.name for fault in all_faults()]
    report.fill(PAGE, "table", [*report.markdown(TITLES, []), *(rows[name] for name in names if name in rows),
                                "", f"{datetime.date.today()}. {describe_machine()}"], "faults")


class Collector:
    """What pytest's cases record as their row."""

    def __init__(self):
        self.results = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.results += [value for name, value in report.user_properties if name == "row"]


def main(words):
    collector = Collector()
    known = [fault.name for fault in all_faults()]
    for word in words:
        if not any(word in name for name in known):
            raise SystemExit(f"faults: none is named so: {word}; there are\n  " + "\n  ".join(known))
    chosen = [name for name in known if not words or any(word in name for word in words)]

    class Choice:
        def pytest_collection_modifyitems(self, items):
            items[:] = [item for item in items if item.callspec.params["fault"].name in chosen]

    failed = pytest.main(["-v", "-p", "no:cacheprovider", str(HERE)], plugins=[collector, Choice()])
    publish(collector.results)
    for result in collector.results:
        print(row(result))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
