"""Faults of the way between daemons and Redis, in each direction."""

import pytest

import proxy
from rig import TIMEOUT, Fault, try_fault


def spoilt(name, mode, **more) -> list:
    """The fault in each direction."""
    def fault(direction):
        return Fault(f"{name}, {direction}", lambda rig: rig.proxy.switch(direction, mode),
                     lambda rig: rig.proxy.switch(direction, proxy.forward), 1,
                     fast=direction == proxy.FROM_REDIS and mode in (proxy.drop, proxy.reset), **more)
    return [fault(proxy.TO_REDIS), fault(proxy.FROM_REDIS)]


FAULTS = [
    *spoilt(f"latency of {TIMEOUT * 250:.0f} ms", proxy.delay(TIMEOUT / 4), fails=False, errors=()),
    *spoilt(f"latency of {TIMEOUT * 2000:.0f} ms", proxy.delay(TIMEOUT * 2)),
    *spoilt("bytes dropped", proxy.drop),
    *spoilt("connection closed in the middle of a message", proxy.cut),
    *spoilt("connection reset", proxy.reset),
    *spoilt("half-open connection: bytes held back until the end", proxy.hold),
    *spoilt("throttled to 100 bytes a second", proxy.throttle(100)),
    *spoilt("bytes delivered one by one", proxy.single_bytes, fails=False, errors=()),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault, tmp_path, record_property):
    record_property("row", try_fault(fault, tmp_path))
