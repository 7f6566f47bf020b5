"""Faults of a Redis Cluster."""

import pytest

from rig import Fault, USERS, harness, try_fault

# What a master's death takes: until the others take it for dead and a replica is in its
# place, they refuse too.
FAILOVER = 15


def master_of(rig, user):
    return rig.cluster.owner(rig.cluster.slot(f"{{{user}}}"))


def kill_master(rig):
    """What it had not told its replica yet is lost."""
    rig.victim = master_of(rig, USERS[0])
    with rig.lost():
        rig.victim.kill()


def await_failover(rig):
    def replaced():
        return master_of(rig, USERS[0]) is not rig.victim and all(
            "cluster_state:ok" in node.cli("CLUSTER", "INFO") for node in rig.cluster.nodes
            if node is not rig.victim)
    harness.wait_until(replaced, FAILOVER, "the failover")


def move_slots(rig):
    """There and back again."""
    for _ in range(3):
        for user in USERS:
            slot = rig.cluster.slot(f"{{{user}}}")
            rig.cluster.close_slot(slot, *rig.cluster.open_slot(slot))


def open_slots(rig):
    rig.open = [(slot, *rig.cluster.open_slot(slot))
                for slot in (rig.cluster.slot(f"{{{user}}}") for user in USERS)]


def close_slots(rig):
    for slot in rig.open:
        rig.cluster.close_slot(*slot)


# Each call pays from two buckets, of which that of its user is the smaller one.
TWO_BUCKETS = """
limits:
  - {{name: user, capacity: {capacity}, refill: 1 per {interval_ms}ms}}
  - {{name: each, by: [user, path], capacity: 1000000, refill: 1000 per 1ms}}
"""

FAULTS = [
    Fault("Cluster: master killed and replaced", kill_master, await_failover,
          cluster=True, interval_us=200_000),
    Fault("Cluster: slots moved under load, three times", move_slots, errors=(), fails=False,
          cluster=True, limits=TWO_BUCKETS),
    Fault("Cluster: slots half moved for 5 s, calls with two buckets each", open_slots, close_slots, 5,
          errors=(), fails=False, cluster=True, limits=TWO_BUCKETS),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault, tmp_path, record_property):
    record_property("row", try_fault(fault, tmp_path))
