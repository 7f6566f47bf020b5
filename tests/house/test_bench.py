"""How ./dev bench reports its measurements, and where the pages hold them."""

import collections
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "bench"))
import parts
import report


def calls(redis: list, noop: list) -> dict:
    """Results of calls: of one group, with each turn's rates of the two."""
    def turns(rates):
        return [{"rate": rate} for rate in rates]
    return {"calls": {"rounds": len(redis), "date": "2026-01-02", "processor": "P",
                      "machine": "A machine: P, 2 cores.", "groups": {"320": {"Redis": turns(redis), "no-op": turns(noop)}}}}


BOUND = report.Bound("Redis", "calls", "320", "Redis", "rate", "≥", 0.75, "no-op")


def test_every_part_has_a_table_a_place_on_the_page_and_a_name_in_the_command():
    assert sorted(parts.PARTS) == sorted(report.TABLES)
    for name in ["must-reach", "machine", *report.TABLES]:
        assert report.block(report.PAGE, name)
    assert report.block(report.README, "summary")
    command = re.search(r"^# measure all, or (.*)$", (ROOT / "tools/bench").read_text(), re.MULTILINE)
    assert sorted(command[1].split()) == sorted(report.TABLES)


def test_every_bound_is_of_a_part():
    assert {bound.part for bound in report.BOUNDS} <= set(report.TABLES)
    names = [bound.what for bound in report.BOUNDS]
    assert len(names) == len(set(names))


def test_a_ratio_is_formed_turn_by_turn():
    # Of the medians it would be 0.5.
    assert BOUND.measured(calls([60, 10, 20], [60, 20, 40])) == "**✗** 0.50 (0.50–1.00)"


@pytest.mark.parametrize("rate, told", [(75, "✓ 0.75"), (74, "**✗** 0.74")])
def test_a_bound_is_reached_from_itself_on(rate, told):
    assert BOUND.measured(calls([rate], [100])) == told


def test_what_was_not_measured_is_told_or_kept(monkeypatch):
    monkeypatch.setattr(report, "BOUNDS", [BOUND])
    assert report.must_reach({}, "P")[-1] == "| Redis | ≥ 0.75 | – |"
    before = "\n".join(report.must_reach(calls([80], [100]), "P"))
    assert report.must_reach({}, "P", before)[-1] == "| Redis | ≥ 0.75 | ✓ 0.80 |"
    assert report.must_reach(calls([90], [100]), "P", before)[-1] == "| Redis | ≥ 0.75 | ✓ 0.90 |"


def test_other_processors_keep_what_was_measured_on_them(monkeypatch):
    monkeypatch.setattr(report, "BOUNDS", [BOUND])
    other = calls([70], [100])
    other["calls"] |= {"processor": "O", "machine": "A machine: O, 4 cores."}
    before = "\n".join(report.must_reach(calls([80], [100]), "P"))
    titles, _, told = report.must_reach(other, "O", before)
    assert (titles, told) == ("| what | must be | O | P |", "| Redis | ≥ 0.75 | **✗** 0.70 | ✓ 0.80 |")
    assert report.must_reach(other, "P", before)[-1] == "| Redis | ≥ 0.75 | ✓ 0.80 |"
    before = "\n".join(report.machines("P", "A machine: P, 1 core."))
    assert report.machines("P", "A machine: P, 2 cores.", before) == ["- A machine: P, 2 cores."]
    assert report.machines("O", "A machine: O.", before) == ["- A machine: O.",
                                                            "- A machine: P, 1 core."]


def test_zipf_requests_come_by_users_in_proportion_to_their_rank():
    users = collections.Counter(request.user_id for request in parts.zipf_requests(1_000, 1.0))
    first, tenth = users[parts.user(0)], users[parts.user(9)]
    assert first / parts.USERS == pytest.approx(1 / sum(1 / rank for rank in range(1, 1_001)), rel=0.05)
    assert first / tenth == pytest.approx(10, rel=0.1)


def test_only_its_own_part_of_a_page_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench: one -->\nold\n<!-- /bench -->\nb\n"
                    "<!-- bench: two -->\nold\n<!-- /bench -->\n")
    report.fill(page, "one", ["new"])
    report.fill(page, "one", ["newer"])
    assert page.read_text() == ("a\n<!-- bench: one -->\n\nnewer\n\n<!-- /bench -->\nb\n"
                                "<!-- bench: two -->\nold\n<!-- /bench -->\n")
    with pytest.raises(SystemExit, match="three"):
        report.fill(page, "three", [])
