"""What stands before the daemons, while all its connections to them end again and again: no
call is lost with one, and none is paid for twice."""

import pytest

import fleet
from fleet import ALL_BALANCERS, ALL_FRONTS, harness

# An age of half an hour in short; and in short what ends connections before it.
AGE = "4s"
SHORT = {"nginx": ("keepalive_time 20m;", "keepalive_time 500ms;"),
         "HAProxy": ("max-reuse 10000\n", "max-reuse 10\n")}
CALLERS = 64


def in_short(kind):
    def edit(config):
        right, short = SHORT.get(kind.name, ("", ""))
        assert right in config
        return config.replace(right, short)

    return edit


@pytest.fixture(scope="module")
def these(tmp_path_factory):
    with fleet.fleet(tmp_path_factory.mktemp("fleet"), MAX_CONNECTION_AGE=AGE) as running:
        yield running


@pytest.fixture(scope="module")
def fronts(these, tmp_path_factory):
    with fleet.fronts(these, tmp_path_factory.mktemp("fronts"), in_short) as running:
        yield running


def await_replacements(these, users, times):
    """Waits until all connections to the daemons, over which each user's calls come, were
    replaced so often."""
    for _ in range(times):
        for instance in these.instances:
            instance.await_calls(users)
        present = harness.connections_to(these.port)
        harness.wait_until(lambda: not present & harness.connections_to(these.port), 60,
                           "an end of all connections")
    for instance in these.instances:
        instance.await_calls(users)


@pytest.fixture(scope="module")
def called(these, fronts):
    with fleet.load(fronts) as calls:
        await_replacements(these, fronts, times=5)
    return calls, {name: these.taken(name) for name in fronts}


@ALL_FRONTS
def test_no_call_is_lost_with_a_connection(kind, called):
    calls, _ = called
    assert not fleet.failed(calls[kind.name])


@ALL_FRONTS
def test_the_limits_give_what_they_have_to_give(kind, called):
    calls, taken = called
    assert fleet.admitted(calls[kind.name]) == taken[kind.name]


@ALL_BALANCERS
def test_nor_at_full_load(kind, these, fronts):
    with fleet.bench(fronts[kind.name].target, CALLERS) as running:
        await_replacements(these, ["user-000000"], times=2)
        seen = running.result()
    assert seen["calls"] > CALLERS and seen["errors"] == {}
