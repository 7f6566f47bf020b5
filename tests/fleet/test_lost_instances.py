"""Calls are spread over all instances; one that is killed, or that stands still, costs the
calls that it had, and in bounded time no more; and none is paid for twice."""

import contextlib
import itertools
import signal
import time

import grpc
import pytest

import fleet
import stalls
from fleet import ALL_BALANCERS, ALL_FRONTS, INSTANCES, ClientSide, harness

# Until one who says nothing gets no more calls: two checks of 1 s that wait for 1 s each;
# without checks, until a call has waited for grpc_read_timeout; on the client side until a
# ping of a connection has no answer, or a call of a new one is not sent.
STOPPED = {"nginx": 1, "HAProxy": 4, "Envoy": 4, "client side": 17}
# How long what comes then is watched.
WATCHED = 8
# nginx tries it again by a call that waits for 1 s, more than 5 s after the last one failed.
BETWEEN_TRIALS = 6
DEADLINE = 5
# As many are on their way through each at once, where they come as fast as they can.
CALLERS = 32


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    """What was called, when which was killed and stopped, and what Redis says was taken."""
    directory = tmp_path_factory.mktemp("fleet")
    with fleet.fleet(directory) as these, fleet.fronts(these, directory) as fronts:
        with fleet.load(fronts, timeout=DEADLINE) as calls:
            for instance in these.instances:
                instance.await_calls(fronts, count=50)
            spread = {name: [instance.calls(name) for instance in these.instances] for name in fronts}
            first, second, _ = these.instances

            killed = time.monotonic()
            first.signal(signal.SIGKILL)
            first.daemon.process.wait()
            first.end()
            await_time(killed + stalls.MARGIN + 1)
            first.start()
            first.await_calls(fronts)

            stopped = time.monotonic()
            second.signal(signal.SIGSTOP)
            await_time(stopped + max(STOPPED[name] for name in fronts) + stalls.MARGIN + WATCHED)
            went_on = time.monotonic()
            second.signal(signal.SIGCONT)
            second.await_calls(fronts)
        taken = {name: these.taken(name) for name in fronts}
    for name in fronts:
        failed = fleet.failed(calls[name])
        by_kill = [call.begun - killed for call in failed if call.ended < stopped]
        by_stop = [call.begun - stopped for call in failed if call.ended >= stopped]
        print(f"\n{name}: spread {spread[name]}; failed by the kill {told(by_kill)}, by the stop {told(by_stop)}")
    return calls, spread, (killed, stopped, went_on), taken


def await_time(until):
    """The load goes on meanwhile: that is what is waited for."""
    harness.wait_until(lambda: time.monotonic() > until, until - time.monotonic() + 5)


def told(times) -> str:
    """How many, and when after the fault the last of them began."""
    return f"{len(times)}, until {max(times):.1f} s" if times else "0"


@ALL_FRONTS
def test_calls_are_spread_over_all(kind, lost):
    _, spread, _, _ = lost
    counts = spread[kind.name]
    assert len(counts) == INSTANCES and min(counts) > sum(counts) / INSTANCES / 2


@ALL_FRONTS
def test_one_that_is_killed_costs_only_calls_that_it_had(kind, lost):
    calls, _, (killed, stopped, _), _ = lost
    for call in fleet.failed(calls[kind.name]):
        if call.ended < stopped:
            assert call.code == grpc.StatusCode.UNAVAILABLE
            assert killed - DEADLINE < call.begun < killed + stalls.allowance(killed)


@ALL_FRONTS
def test_one_that_stands_still_gets_no_more_calls(kind, lost):
    calls, _, (_, stopped, went_on), _ = lost
    # Those that Envoy gives to nobody it did not get: on a busy machine checks of the others time out, too.
    failed = [call for call in fleet.failed(calls[kind.name]) if call.details != "no healthy upstream"]
    noticed = stopped + STOPPED[kind.name] + stalls.allowance(stopped)
    late = [call for call in failed if noticed < call.begun < went_on]
    if kind is fleet.Nginx:
        late.sort(key=lambda call: call.begun)
        # From when a call began to when the next one failed: however busy the machine is, this is no less.
        assert all(then.ended - call.begun > BETWEEN_TRIALS for call, then in itertools.pairwise(late))
    else:
        assert not late
    assert not [call for call in failed if call.begun > went_on]
    meanwhile = [call for call in calls[kind.name] if noticed < call.begun < went_on]
    assert len(fleet.failed(meanwhile)) < len(meanwhile) / 2


@ALL_FRONTS
def test_none_is_paid_for_twice(kind, lost):
    calls, _, _, taken = lost
    failed, admitted = fleet.failed(calls[kind.name]), fleet.admitted(calls[kind.name])
    for limit, tokens in taken[kind.name].items():
        unknown = sum(call.limit == limit for call in failed)
        assert admitted[limit] <= tokens <= admitted[limit] + unknown


@pytest.fixture(scope="module")
def killed_at_full_load(tmp_path_factory):
    """What callers saw who call as fast as they can, while an instance was killed."""
    directory = tmp_path_factory.mktemp("fleet")
    with fleet.fleet(directory) as these, fleet.fronts(these, directory) as fronts, \
            contextlib.ExitStack() as stack:
        first, *others = these.instances
        benches = {}
        for number, (name, front) in enumerate(fronts.items()):
            if name != ClientSide.name:
                # Each has one user more than those before, by whom it is known that it calls.
                benches[name] = stack.enter_context(fleet.bench(front.target, CALLERS, users=number + 1))
                first.await_calls([f"user-{number:06}"], count=100)
        killed = time.monotonic()
        first.signal(signal.SIGKILL)
        assert all(bench.is_running() for bench in benches.values())
        await_time(killed + WATCHED)
        for instance in others:
            instance.await_calls([f"user-{number:06}" for number in range(len(benches))], count=100)
        return {name: bench.result() for name, bench in benches.items()}


@ALL_BALANCERS
def test_one_that_is_killed_at_full_load_costs_a_call_of_each_caller_at_most(kind, killed_at_full_load):
    seen = killed_at_full_load[kind.name]
    assert seen["calls"] > CALLERS
    assert sum(seen["errors"].values()) <= CALLERS
