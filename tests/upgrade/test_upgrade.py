"""What an upgrade keeps: a daemon of an earlier revision and one of this beside each other, as
they are while a fleet is upgraded. ./dev check upgrade builds the earlier one."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import harness

pytestmark = pytest.mark.skipif("RATELIMITER_BEFORE" not in os.environ,
                                reason="needs the earlier revision, which ./dev check upgrade builds")
BEFORE = pathlib.Path(os.environ.get("RATELIMITER_BEFORE", "."))
CAPACITY = 200
LIMITS = """
limits:
  - {name: calls, capacity: 200, refill: 1 per 1d}
  - {name: tenants, path: /api/*, by: [user, attributes.tenant], capacity: 50, refill: 1 per 1d}
  - {name: trial, path: /api/*, capacity: 1, refill: 1 per 1d, shadow: true}
"""


@pytest.fixture
def both(tmp_path):
    """The earlier one and this one, over one Redis and with one limits file."""
    limits = tmp_path / "limits.yaml"
    limits.write_text(LIMITS)
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(harness.redis_server())
        settings = {"REDIS_URL": redis.url, "LIMITS_FILE": limits}
        yield [stack.enter_context(harness.daemon(program=program, **settings))
               for program in (BEFORE / "ratelimiterd", harness.DAEMON)]


def test_buckets_are_shared_to_the_last_token(both):
    admitted = []

    def take(number):
        daemon = both[number % 2]
        for _ in range(CAPACITY // 4):
            admitted.append(daemon.allow("shared")["allowed"])

    harness.at_once(take, 8)
    assert (len(admitted), sum(admitted)) == (2 * CAPACITY, CAPACITY)
    assert [daemon.usage("shared")["requests_used"] for daemon in both] == [CAPACITY] * 2


def test_both_decide_alike(both):
    def answers(daemon, user) -> list:
        return [daemon.allow(user, "/api/x", attributes={"tenant": "a"}, cost=cost)
                for cost in (1, 20, 20, 20, 0)]

    def without_waits(answer) -> dict:
        """Which go on meanwhile."""
        limits = [{name: value for name, value in one.items() if not name.endswith("_after")}
                  for one in answer.get("limits", [])]
        return {name: value for name, value in answer.items()
                if not name.endswith("_after")} | {"limits": limits}

    old, new = ([without_waits(one) for one in answers(daemon, user)]
                for daemon, user in zip(both, ("by the old", "by the new")))
    assert old == new
    # The fourth asks for more than is left of 50.
    assert [one["allowed"] for one in new] == [True, True, True, False, True]


def test_settings_keep_their_names_and_defaults():
    before, now = ({name: (setting.flag, setting.default) for name, setting in
                    harness.settings_in_help(program).items()}
                   for program in (BEFORE / "ratelimiterd", harness.DAEMON))
    assert len(before) > 30
    assert before.items() <= now.items()


@pytest.mark.parametrize("rlctl, daemon", [(BEFORE / "rlctl", 1), (pathlib.Path(harness.RLCTL), 0)],
                         ids=["the earlier rlctl", "this rlctl"])
def test_rlctl_speaks_to_the_other(rlctl, daemon, both):
    port = str(both[daemon].port)
    environment, patient = harness.clean_environment(PORT=port), ["--timeout", "20s"]
    done = subprocess.run([rlctl, "check", "alice", "/login", "--json", *patient], capture_output=True,
                          text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["remaining"] == CAPACITY - 1
    assert subprocess.run([rlctl, "healthcheck", *patient], env=environment).returncode == 0
