"""The one rule by which tests from outside allow for a machine that stands still.

A heartbeat measures for how long this process was kept waiting. A bound in time is
`seconds + stalls.allowance(since)`: the longest such wait since then, and a margin for the
other processes, whose waits are not seen. Where a stall does not lengthen a time but changes
what happens, as a call that then fails, `attempt` tries again, but only after a stall that was
long enough to explain it.
"""

import threading
import time

MARGIN = 3.0
BEAT = 0.01


class Heartbeat(threading.Thread):
    def __init__(self):
        super().__init__(name="heartbeat", daemon=True)
        self.stalls = []  # When each began, and how long it lasted.
        self.start()

    def run(self):
        while True:
            begun = time.monotonic()
            time.sleep(BEAT)
            late = time.monotonic() - begun - BEAT
            if late > BEAT:
                self.stalls.append((begun, late))


HEART = Heartbeat()


def longest(since: float) -> float:
    """The longest stall that was not over by `since`, a time of time.monotonic()."""
    return max((late for begun, late in list(HEART.stalls) if begun + BEAT + late >= since), default=0.0)


def allowance(since: float, margin=MARGIN) -> float:
    return margin + longest(since)


def attempt(prepare, check, explains: float, tries=5):
    """check(prepare(number)), again where it raises an AssertionError after a stall of at least
    `explains` seconds. What `prepare` raises is never excused."""
    for left in reversed(range(tries)):
        begun = time.monotonic()
        prepared = prepare(tries - left)
        try:
            return check(prepared)
        except AssertionError as error:
            if left == 0 or longest(begun) < explains:
                raise
            print(f"the machine stood still for {longest(begun):.2f} s: {error}")
