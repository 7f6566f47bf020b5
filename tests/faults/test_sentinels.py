"""Faults of a Redis behind sentinels."""

import contextlib
import signal

import pytest

from rig import Fault, TIMEOUT, try_fault


def kill_master(rig):
    """What it had not told its replica yet is lost."""
    with rig.lost():
        rig.sentinels.master.kill()


def stop_master(rig):
    """Until a daemon asks the sentinels again, the old master decides for it, and all of that
    is lost."""
    rig.losing = contextlib.ExitStack()
    rig.losing.enter_context(rig.lost())
    rig.sentinels.master.process.send_signal(signal.SIGSTOP)
    rig.sentinels.await_failover()
    rig.sentinels.master.process.send_signal(signal.SIGCONT)


def end_loss(rig):
    rig.losing.close()


def await_failover(rig):
    rig.sentinels.await_failover()


# So slow a refill that what is lost with the master is not back before its successor is there.
COMMON = {"sentinels": True, "interval_us": 200_000}

FAULTS = [
    Fault("three sentinels: master killed and replaced", kill_master, await_failover, **COMMON),
    # Daemons ask each second, and then wait for what is under way.
    Fault("three sentinels: master frozen, replaced, and resumed", stop_master, end_loss,
          1 + 2 * TIMEOUT, **COMMON),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault, tmp_path, record_property):
    record_property("row", try_fault(fault, tmp_path))
