"""Several limits, from outside: which apply, what the answers say, many requests in
one call, and the keys on a Redis Cluster."""

import contextlib

import grpc
import pytest

import harness

LIMITS = """
hash_by: global
limits:
  - name: user
    capacity: 10
    refill: 1 per 1h
  - name: login
    path: /login
    capacity: 3
    refill: 1 per 2h
  - name: reports
    path: /reports/*
    capacity: 100
    refill: 1 per 5h
    cost: 40
  - name: tenant
    attributes: {plan: free}
    by: [attributes.tenant]
    capacity: 5
    refill: 1 per 3h
    overrides:
      - attributes: {tenant: acme}
        capacity: 7
      - attributes: {tenant: ours}
        unlimited: true
      - attributes: {tenant: banned}
        capacity: 0
  - name: trial
    path: /trial
    capacity: 1
    refill: 1 per 4h
    shadow: true
"""


@pytest.fixture(scope="module", params=["redis", "memory"])
def daemon(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("limits") / "limits.yaml"
    file.write_text(LIMITS)
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(harness.redis_server())
        yield stack.enter_context(harness.daemon(
            STORE=request.param, REDIS_URL=redis.url, LIMITS_FILE=file, RATELIMIT_HEADERS="on"))


@pytest.fixture
def user(request) -> str:
    """One that no other test knows."""
    return request.node.name


def states(answer) -> dict:
    return {state["name"]: state for state in answer["limits"]}


def test_the_tightest_limit_is_told(daemon, user):
    answer = daemon.allow(user, "/login")
    assert (answer["limit_name"], answer["remaining"], answer["limit"]) == ("login", 2, 3)
    assert daemon.allow(user, "/search")["limit_name"] == "user"
    assert "limits" not in answer


def test_a_refusal_tells_the_limit_and_takes_from_none(daemon, user):
    for _ in range(3):
        assert daemon.allow(user, "/login")["allowed"]
    refused = daemon.allow(user, "/login", details=True)
    assert not refused["allowed"]
    assert refused["reason"] == 'Limit "login" exceeded: cost 1, 0 of 3 tokens left'
    assert refused["limit_name"] == "login"
    assert 7100 < float(refused["retry_after"].rstrip("s")) <= 7200
    assert states(refused)["user"]["remaining"] == 7, "only the three that passed were paid"
    assert states(refused)["user"]["allowed"] and not states(refused)["login"]["allowed"]


def test_where_no_limit_applies_the_answer_has_no_limit_fields(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("limits: [{name: login, path: /login, capacity: 3, refill: 1 per 1s}]")
    with harness.daemon(STORE="memory", LIMITS_FILE=file) as daemon:
        assert daemon.allow("u", "/other") == {"allowed": True, "reason": "Request allowed"}
        assert daemon.call("GetUsage", user_id="u") == {}
        assert daemon.call("GetUsage", user_id="u", path="/login")["requests_allowed"] == 3


def test_a_request_pays_the_limits_multiple(daemon, user):
    answer = daemon.allow(user, "/reports/daily", cost=2)
    assert (answer["limit_name"], answer["remaining"]) == ("reports", 20)
    error = harness.error_of(daemon.allow, user, "/reports/daily", cost=3)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == ('cost is 3, above the capacity of limit "reports", so it could '
                               "never pass; accepted: 0 to 2")


def test_limits_by_an_attribute(daemon, user):
    def allow(name, **attributes):
        return daemon.allow(f"{user}-{name}", attributes=attributes, details=True)

    assert [allow(n, plan="free", tenant="small")["allowed"] for n in range(6)] == 5 * [True] + [False]
    assert allow(7, plan="free", tenant="other")["allowed"], "each tenant has a bucket of its own"
    assert "tenant" not in states(allow(8, plan="gold", tenant="small"))
    assert "tenant" not in states(allow(9, plan="free")), "one without a tenant is not subject to it"
    assert states(allow(10, plan="free", tenant="acme"))["tenant"]["limit"] == 7
    assert "tenant" not in states(allow(11, plan="free", tenant="ours"))


def test_capacity_zero_refuses_always(daemon, user):
    banned = {"plan": "free", "tenant": "banned"}
    refused = daemon.allow(user, attributes=banned)
    assert refused == {"allowed": False, "reason": 'Limit "tenant" always refuses: its capacity is 0',
                       "remaining": 0, "limit": 0, "reset_after": "0s", "limit_name": "tenant"}
    refused = daemon.allow(user, attributes=banned, details=True)
    assert states(refused)["user"]["remaining"] == 10


def test_a_shadow_refuses_nothing_and_is_counted(daemon, user):
    def counted(status):
        [sample] = [sample for sample in daemon.samples("rate_limiter_decisions_total")
                    if sample.labels == {"limit": "trial", "status": status}]
        return sample.value

    allowed, denied = counted("allowed"), counted("shadow_denied")
    answers = [daemon.allow(user, "/trial", details=True) for _ in range(3)]
    assert [answer["allowed"] for answer in answers] == [True, True, True]
    assert [states(answer)["trial"]["allowed"] for answer in answers] == [True, False, False]
    assert all(states(answer)["trial"]["shadow"] for answer in answers)
    assert [answer["limit_name"] for answer in answers] == 3 * ["user"]
    assert (counted("allowed"), counted("shadow_denied")) == (allowed + 1, denied + 2)
    assert counted("denied") == 0
    assert daemon.allow(user, "/trial", cost=2)["allowed"], "nor does its capacity make a call invalid"


def test_usage_is_of_the_tightest_limit_or_the_one_named(daemon, user):
    daemon.allow(user, "/login")
    usage = daemon.call("GetUsage", user_id=user, path="/login")
    assert (usage["requests_used"], usage["requests_allowed"], usage["limit_name"]) == (1, 3, "login")
    assert [state["name"] for state in usage["limits"]] == ["user", "login"]
    assert all(state["allowed"] for state in usage["limits"])
    daemon.allow(user, "/login", cost=2)
    login = states(daemon.call("GetUsage", user_id=user, path="/login"))["login"]
    assert not login["allowed"] and float(login["retry_after"].rstrip("s")) > 7100
    banned = daemon.call("GetUsage", user_id=user, attributes={"plan": "free", "tenant": "banned"})
    assert banned["limit_name"] == "tenant" and not states(banned)["tenant"]["allowed"]
    named = daemon.call("GetUsage", user_id=user, path="/login", limit_name="user")
    assert (named["requests_used"], named["requests_allowed"], named["limit_name"]) == (3, 10, "user")
    error = harness.error_of(daemon.call, "GetUsage", user_id=user, limit_name="login")
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert error.details() == 'no limit "login" applies to this request; applicable limits: user'


@pytest.mark.parametrize("attributes, told", [
    ({f"key-{number}": "" for number in range(17)}, "there are 17 attributes; accepted: at most 16"),
    ({"": "x"}, "an attribute's key is 0 bytes long; accepted: 1 to 64 bytes"),
    ({"k" * 65: "x"}, "an attribute's key is 65 bytes long; accepted: 1 to 64 bytes"),
    ({"key": "v" * 257}, 'attribute "key" is 257 bytes long; accepted: at most 256 bytes'),
])
def test_attributes_out_of_bounds_are_told(attributes, told, daemon, user):
    for call in (daemon.allow, lambda user, **fields: daemon.call("GetUsage", user_id=user, **fields)):
        error = harness.error_of(call, user, attributes=attributes)
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, told)


def test_headers(daemon, user):
    request = harness.message("AllowRequestRequest")(user_id=user, path="/login")
    method = daemon.channel.unary_unary("/limiter.RateLimiter/AllowRequest")
    _, call = method.with_call(request.SerializeToString(), timeout=10)
    metadata = dict(call.initial_metadata())
    assert metadata["ratelimit-policy"] == '"user";q=10;w=36000, "login";q=3;w=21600'
    assert metadata["ratelimit"] == '"user";r=9;t=3600, "login";r=2;t=7200'
    request = harness.message("AllowRequestRequest")(
        user_id=user, attributes={"plan": "free", "tenant": "banned"})
    _, call = method.with_call(request.SerializeToString(), timeout=10)
    assert dict(call.initial_metadata())["ratelimit-policy"] == '"tenant";q=0'


def test_without_the_setting_there_are_no_headers():
    with harness.daemon(STORE="memory") as daemon:
        request = harness.message("AllowRequestRequest")(user_id="u").SerializeToString()
        method = daemon.channel.unary_unary("/limiter.RateLimiter/AllowRequest")
        _, call = method.with_call(request, timeout=10)
        assert not [key for key, _ in call.initial_metadata() if key.startswith("ratelimit")]


# --- Many requests in one call ---


def allow_all(daemon, requests) -> list:
    return daemon.call("AllowRequests", requests=requests)["results"]


def test_a_thousand_requests_answer_as_a_thousand_calls_would(daemon, user):
    # With details, which no refusal that is known beforehand gives.
    def requests(run):
        paths = ["/login", "/reports/a", "/", "/trial"]
        return [{"user_id": f"{user}-{run}-{number % 7}", "path": paths[number % 4],
                 "cost": number % 3, "details": True} for number in range(1_000)]

    def comparable(answer):
        """Without what moves as time passes."""
        for message in [answer, *answer.get("limits", [])]:
            for moving in ("reset_after", "retry_after"):
                message.pop(moving, None)
        return answer

    together = [comparable(result["response"]) for result in allow_all(daemon, requests("a"))]
    one_by_one = [comparable(daemon.call("AllowRequest", **request)) for request in requests("b")]
    assert together == one_by_one
    assert not all(answer["allowed"] for answer in together)


def test_a_bad_request_spoils_no_other(daemon, user):
    results = allow_all(daemon, [{"user_id": user}, {"user_id": ""}, {"user_id": user, "cost": 11},
                                 {"user_id": user, "path": "p" * 1025}, {"user_id": user}])
    assert [result["code"] for result in results] == [0, 3, 3, 3, 0]
    assert results[1]["message"] == "user_id is empty; accepted: 1 to 256 bytes"
    assert "response" not in results[2] and "message" not in results[0]
    assert [results[n]["response"]["remaining"] for n in (0, 4)] == [9, 8]


def test_a_batch_of_many_limits_is_decided_in_time(tmp_path):
    (tmp_path / "limits.yaml").write_text("limits:\n" + "".join(
        f"  - {{name: limit-{'x' * 50}-{number:02}, capacity: 500, refill: 1 per 1h}}\n" for number in range(64)))
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=redis.url, LIMITS_FILE=tmp_path / "limits.yaml", RATELIMIT_HEADERS="on") as daemon:
        results = allow_all(daemon, 1_000 * [{"user_id": "u"}])
        assert [result["code"] for result in results] == 1_000 * [0]
        assert sum(result["response"]["allowed"] for result in results) == 500
        assert not daemon.allow("u")["allowed"], "and its headers are not longer than is accepted"


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_batch_holds_1_to_1000(count, daemon):
    error = harness.error_of(allow_all, daemon, count * [{"user_id": "u"}])
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"there are {count} requests; accepted: 1 to 1000"


def test_a_batch_needs_few_round_trips(tmp_path):
    (tmp_path / "limits.yaml").write_text(LIMITS)
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=redis.url, LIMITS_FILE=tmp_path / "limits.yaml") as daemon:
        daemon.allow("warm")
        [before] = daemon.samples("redis_latency_seconds_count")
        allow_all(daemon, [{"user_id": f"user-{number}"} for number in range(1_000)])
        [after] = daemon.samples("redis_latency_seconds_count")
        assert after.value - before.value <= 20


def test_where_redis_is_away_each_request_of_a_batch_says_so():
    with harness.daemon(REDIS_URL=f"redis://127.0.0.1:{harness.free_port()}") as daemon:
        results = allow_all(daemon, 300 * [{"user_id": "u"}] + [{"user_id": ""}])
        assert [result["code"] for result in results] == 300 * [14] + [3]
        assert "is not available" in results[0]["message"]


# --- Redis Cluster ---


@pytest.mark.parametrize("hash_by", ["user", "global"])
def test_keys_of_one_call_share_a_slot(hash_by, tmp_path):
    by = {"user": "[user, path]", "global": "[path]"}[hash_by]
    (tmp_path / "limits.yaml").write_text(f"""
hash_by: {hash_by}
limits:
  - {{name: a, capacity: 3, refill: 1 per 1h}}
  - {{name: b, path: "/x/*", by: {by}, capacity: 5, refill: 1 per 1h}}
""")
    with harness.redis_server("--cluster-enabled", "yes", "--cluster-config-file",
                              str(tmp_path / "nodes.conf"), "--cluster-port",
                              str(harness.free_port())) as redis:
        redis.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        harness.wait_until(lambda: "cluster_state:ok" in redis.cli("CLUSTER", "INFO"),
                           what="the cluster")
        with harness.daemon(REDIS_URL=redis.url, LIMITS_FILE=tmp_path / "limits.yaml") as daemon:
            for user in ("user", "{a}b", "}", "%all", "a:b"):
                answers = [daemon.allow(user, "/x/{y}", details=True) for _ in range(4)]
                assert [answer["allowed"] for answer in answers] == [True] * 3 + [False]
                if hash_by == "global":
                    redis.cli("DEL", "rl:1:b:{%all}:/x/{y}")
            slots = {redis.cli("CLUSTER", "KEYSLOT", key)
                     for key in redis.cli("KEYS", "rl:*").splitlines()}
            assert (len(slots) == 1) == (hash_by == "global")
            # What goes in one round trip is of several slots.
            requests = [{"user_id": user, "path": "/"} for user in ("one", "other", "third")]
            results = daemon.call("AllowRequests", requests=requests)["results"]
            assert [result["code"] for result in results] == [0, 0, 0]


def test_limits_that_clash_on_a_cluster_are_refused(tmp_path):
    (tmp_path / "limits.yaml").write_text("""
limits:
  - {name: each, capacity: 3, refill: 1 per 1h}
  - {name: total, by: [], capacity: 5, refill: 1 per 1h}
""")
    done = harness.run_to_end(STORE="memory", LIMITS_FILE=tmp_path / "limits.yaml")
    assert done.returncode == 78
    assert 'limits.yaml:4:5: limit "total" does not count by user, limit "each" at line 3' in done.stderr
    assert "accepted: hash_by global" in done.stderr
