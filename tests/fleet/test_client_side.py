"""Callers who find the instances by a name, and spread their calls themselves."""

import contextlib

import grpc

import fleet
from fleet import NAME, ClientSide, NameServer, harness


def test_a_name_is_all_instances_and_those_that_come_later(tmp_path):
    # The age of connections is what has a caller look the name up again.
    with contextlib.ExitStack() as stack:
        these = stack.enter_context(fleet.fleet(tmp_path, MAX_CONNECTION_AGE="1s"))
        hosts = [instance.host for instance in these.instances[:2]]
        names = NameServer(stack, hosts)
        options = [*ClientSide(these).options, ("grpc.dns_min_time_between_resolutions_ms", 1000)]
        channel = stack.enter_context(grpc.insecure_channel(
            f"dns://127.0.0.1:{names.port}/{NAME}:{these.port}", options=options))

        def reached():
            fleet.allow(channel, "caller").result()
            return [instance.host for instance in these.instances if instance.calls("caller")]

        harness.wait_until(lambda: reached() == hosts, 30, "calls of those that the name has")
        hosts.append(these.instances[2].host)
        harness.wait_until(lambda: reached() == hosts, 60, "calls of the one that came later")


def test_an_instance_that_drains_gets_no_more_calls_at_once(tmp_path):
    with fleet.fleet(tmp_path, DRAIN_TIME="1h") as these:
        front = ClientSide(these)
        first, *others = these.instances
        with grpc.insecure_channel(front.target, options=front.options) as channel:
            def call():
                return fleet.allow(channel, "caller").result()

            harness.wait_until(lambda: call() and all(
                instance.calls("caller") for instance in these.instances), 30, "calls of all")
            first.daemon.process.terminate()
            harness.wait_until(lambda: first.daemon.health() == "NOT_SERVING", what="the drain")

            def left_alone():
                before = first.calls("caller")
                for _ in range(12):
                    call()
                return first.calls("caller") == before

            harness.wait_until(left_alone, what="an end of its calls")
            # It would take them still.
            assert first.daemon.allow("caller")["allowed"]
