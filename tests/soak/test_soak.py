"""The soak, in short: half a minute at a rate that leaves the machine room."""

import soak
from rig import MORE_BYTES


def test_soak():
    # Beside other tests calls wait longer, and more of them at once.
    more = soak.MORE._replace(bytes=MORE_BYTES)
    rounds = soak.run(minutes=0.5, seconds=4, rate=300, more=more)
    assert {one.event for one in rounds} == set(soak.MAY)
    # Each event was met by load, and by what it does.
    assert all(one.kept["calls"] > 500 for one in rounds)
    assert any(one.kept["denied"] for one in rounds) and any(one.kept["allowed"] for one in rounds)
