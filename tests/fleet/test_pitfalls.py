"""What the comments of the configurations warn of."""

import grpc

import fleet
from fleet import HAProxy, harness


def by_connection(config):
    """The same balancer where it looks at connections, and not into them (L4)."""
    return config.replace("mode http", "mode tcp").replace(" proto h2", "").replace(
        "    retry-on conn-failure\n", "")


def test_a_balancer_of_connections_pins_a_channel_until_its_age_ends(tmp_path):
    with fleet.fleet(tmp_path, MAX_CONNECTION_AGE="10s") as these:
        balancer = HAProxy(these, tmp_path, by_connection)
        try:
            with grpc.insecure_channel(balancer.target) as channel:
                def instances():
                    return [instance for instance in these.instances if instance.calls("pinned")]

                for _ in range(30):
                    fleet.allow(channel, "pinned").result()
                assert len(instances()) == 1

                def moved():
                    fleet.allow(channel, "pinned").result()
                    return len(instances()) > 1

                harness.wait_until(moved, 60, "calls of another instance")
        finally:
            balancer.end()


def test_a_batch_passes_that_is_larger_than_a_mebibyte(tmp_path):
    requests = [harness.message("AllowRequestRequest")(user_id=f"user-{number:032}", path="/" + "x" * 1023)
                for number in range(1000)]
    request = harness.message("AllowRequestsRequest")(requests=requests)
    assert request.ByteSize() > 2**20
    with fleet.fleet(tmp_path) as these, fleet.fronts(these, tmp_path) as fronts:
        for front in fronts.values():
            with grpc.insecure_channel(front.target, options=front.options) as channel:
                answer = channel.unary_unary("/limiter.RateLimiter/AllowRequests")(
                    request.SerializeToString(), timeout=20)
            assert len(harness.message("AllowRequestsResponse").FromString(answer).results) == 1000
