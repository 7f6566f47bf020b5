"""Faults of a Redis behind sentinels."""

import signal

import pytest

from rig import Fault, try_fault


def kill_master(rig):
    """What it had not told its replica yet is lost."""
    with rig.lost():
        rig.sentinels.master.kill()


def stop_master(rig):
    """What it decides when it goes on is lost: all that it was sent before."""
    with rig.lost():
        rig.sentinels.master.process.send_signal(signal.SIGSTOP)
        rig.sentinels.await_failover()
        rig.sentinels.master.process.send_signal(signal.SIGCONT)


def await_failover(rig):
    rig.sentinels.await_failover()


# So slow a refill that what is lost with the master is not back before its successor is there.
COMMON = {"sentinels": True, "interval_us": 200_000}

FAULTS = [
    Fault("behind three sentinels, the master killed, and replaced", kill_master, await_failover, **COMMON),
    Fault("behind three sentinels, the master stopped, replaced, and going on", stop_master, **COMMON),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault, tmp_path, record_property):
    record_property("row", try_fault(fault, tmp_path))
