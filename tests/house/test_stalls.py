"""What the tests from outside excuse by a machine that stands still."""

import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import stalls


@pytest.fixture
def measured(monkeypatch):
    """Stalls that the test names, in place of those of this machine."""
    heart = type("Heart", (), {"stalls": []})()
    monkeypatch.setattr(stalls, "HEART", heart)
    return heart.stalls


def test_a_bound_allows_for_the_longest_stall_since(measured):
    measured += [(10, 9.0), (30, 2.0), (40, 1.0)]
    assert stalls.longest(25) == 2.0
    assert stalls.longest(31) == 2.0  # It was not over.
    assert stalls.longest(35) == 1.0
    assert stalls.longest(50) == 0.0
    assert stalls.allowance(25, margin=0.5) == 2.5


def fails_at_first(stalled, measured, tried):
    def prepare(number):
        tried.append(number)
        measured.append((time.monotonic(), stalled))
        return number

    def check(number):
        assert number == 2, "failed"
        return number
    return prepare, check


def test_a_failure_after_a_stall_is_tried_again(measured):
    tried = []
    assert stalls.attempt(*fails_at_first(0.5, measured, tried), explains=0.2) == 2
    assert tried == [1, 2]


def test_a_failure_that_no_stall_explains_is_a_failure(measured):
    tried = []
    with pytest.raises(AssertionError, match="failed"):
        stalls.attempt(*fails_at_first(0.1, measured, tried), explains=0.2)
    assert tried == [1]


def test_the_heart_beats():
    begun = time.monotonic()
    stalls.HEART.stalls.append((begun, 0.1))
    assert stalls.HEART.is_alive() and stalls.longest(begun) >= 0.1
