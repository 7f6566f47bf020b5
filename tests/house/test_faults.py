"""The faults that are tried are those of the page."""

import collections
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "faults"))
import faults


def test_every_fault_is_a_row_of_the_page_and_every_row_a_fault():
    names = [fault.name for fault in faults.all_faults()]
    title, *written = faults.written_rows()
    assert title == faults.TITLES[0]
    assert written == names
    assert len(set(names)) == len(names)


def test_a_row_tells_shares_and_what_lost_data_admitted():
    result = {"fault": "a fault", "gets": collections.Counter(UNAVAILABLE=3, allowed=1), "worst": 0.8051,
              "worst after": 0.004, "answered": 0.04, "ready": 1.26, "over": 17, "may": 20}
    assert faults.row(result) == ("| a fault | UNAVAILABLE 75 %, allowed 25 % | 0.81 | 0.00 | 0.0 | 1.3 "
                                  "| 17 of 20 allowed |")
