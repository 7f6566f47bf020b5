"""All instances replaced, one after the other, under load that comes whatever becomes of it:
no call fails, and what is admitted is what the limits have to give."""

import signal

import pytest

import fleet
from fleet import ALL_FRONTS, FIXED


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory):
    """All that was called, and what Redis says was taken, by what stood before the fleet;
    and the table of docs/operate/operations.md, for whoever runs this with -s."""
    directory = tmp_path_factory.mktemp("fleet")
    with fleet.fleet(directory) as these, fleet.fronts(these, directory) as fronts:
        with fleet.load(fronts) as calls:
            for instance in these.instances:
                instance.await_calls(fronts)
            for instance in these.instances:
                for front in fronts.values():
                    front.take_out(instance)
                instance.signal(signal.SIGTERM)
                assert instance.daemon.process.wait(timeout=60) == 0
                instance.end()
                instance.start()
                for front in fronts.values():
                    front.put_back(instance)
                instance.await_calls(fronts)
        taken = {name: these.taken(name) for name in fronts}
    print("\n| Before the daemons | Calls | Failed | Slowest | Admitted | Expected |\n|---|---|---|---|---|---|")
    for name in fronts:
        slowest = max(call.ended - call.begun for call in calls[name])
        row = (name, len(calls[name]), len(fleet.failed(calls[name])), f"{slowest * 1000:.0f} ms",
               sum(fleet.admitted(calls[name]).values()), sum(taken[name].values()))
        print(f"| {' | '.join(map(str, row))} |")
    return calls, taken


@ALL_FRONTS
def test_no_call_fails(kind, upgraded):
    calls, _ = upgraded
    assert not fleet.failed(calls[kind.name])


@ALL_FRONTS
def test_the_limits_give_what_they_have_to_give(kind, upgraded):
    calls, taken = upgraded
    assert fleet.admitted(calls[kind.name]) == taken[kind.name]
    assert taken[kind.name]["fixed"] == FIXED
