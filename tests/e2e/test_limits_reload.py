"""The limits file changed under a running daemon: by an editor, by SIGHUP, badly, or
deleted; and what becomes of the tokens."""

import os
import signal

import pytest

import harness


def limits_yaml(refill="1 per 30d", **capacities) -> str:
    """A file of limits by user of these capacities, which hardly ever refill."""
    lines = [f"  - {{name: {name}, capacity: {capacity}, refill: {refill}}}\n"
             for name, capacity in capacities.items()]
    return "limits:\n" + "".join(lines)


def replace(path, text):
    """As editors do, and deployments."""
    new = path.with_name("new")
    new.write_text(text)
    os.rename(new, path)


@pytest.fixture
def limits_file(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text(limits_yaml(a=5))
    return path


@pytest.fixture
def redis():
    with harness.redis_server() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def daemon(request, limits_file):
    settings = {"STORE": request.param, "LIMITS_FILE": limits_file}
    if request.param == "redis":
        settings["REDIS_URL"] = request.getfixturevalue("redis").url
    with harness.daemon(**settings) as running:
        yield running


def reloads(daemon) -> tuple:
    """(successes, failures, whether the last was one or the other)."""
    by_result = {sample.labels["result"]: sample.value
                 for sample in daemon.samples("rate_limiter_config_reloads_total")}
    (last,) = daemon.samples("rate_limiter_config_last_reload_successful")
    return by_result["success"], by_result["failure"], last.value


def wait_for_reloads(daemon, *expected):
    harness.wait_until(lambda: reloads(daemon) == expected, what=f"reloads {expected}")


def loaded_at(daemon) -> float:
    (sample,) = daemon.samples("rate_limiter_config_loaded_timestamp_seconds")
    return sample.value


def deciding(daemon, user="user") -> tuple:
    """A call, by the limit that decides it: (name, capacity, tokens left)."""
    answer = daemon.allow(user)
    assert answer["allowed"]
    return answer["limit_name"], answer["limit"], answer["remaining"]


@pytest.mark.parametrize("write", [replace, lambda path, text: path.write_text(text)],
                         ids=["renamed", "written in place"])
def test_a_changed_file_comes_in_force(write, daemon, limits_file):
    assert deciding(daemon) == ("a", 5, 4)
    assert reloads(daemon) == (0, 0, 1)
    before = loaded_at(daemon)
    write(limits_file, limits_yaml(b=7))
    # One that is written in place may be read before all of it is there, and is read again.
    harness.wait_until(lambda: reloads(daemon)[::2] == (1, 1), what="the reload")
    assert write is not replace or reloads(daemon) == (1, 0, 1)
    assert deciding(daemon) == ("b", 7, 6)
    assert loaded_at(daemon) > before
    daemon.await_log(f"reloaded: 1 limits of {limits_file}")


def test_the_swap_of_a_config_map(tmp_path):
    """As kubelet does it: a folder with the time in its name, and a link renamed."""
    volume = tmp_path / "volume"
    volume.mkdir()

    def publish(time, text):
        (volume / time).mkdir()
        (volume / time / "limits.yaml").write_text(text)
        (volume / "..data_tmp").symlink_to(time)
        os.rename(volume / "..data_tmp", volume / "..data")

    publish("..2026_01_01_00_00_00.1", limits_yaml(a=5))
    (volume / "limits.yaml").symlink_to("..data/limits.yaml")
    with harness.daemon(STORE="memory", LIMITS_FILE=volume / "limits.yaml") as daemon:
        for count in range(1, 4):
            publish(f"..2026_01_01_00_00_01.{count}", limits_yaml(**{f"v{count}": 5}))
            wait_for_reloads(daemon, count, 0, 1)
            assert deciding(daemon) == (f"v{count}", 5, 4)


def test_sighup_reads_the_file_again(daemon):
    for count in (1, 2):
        daemon.process.send_signal(signal.SIGHUP)
        wait_for_reloads(daemon, count, 0, 1)
    assert deciding(daemon) == ("a", 5, 4)
    assert daemon.terminate() == 0


def test_sighup_without_a_limits_file_changes_nothing():
    with harness.daemon(STORE="memory") as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        daemon.await_log("nothing to reload")
        assert deciding(daemon) == ("default", 5, 4)
        assert "config_reload" not in daemon.metrics()
        assert daemon.terminate() == 0


def test_sighup_does_not_cut_the_drain_short(limits_file):
    with harness.daemon(STORE="memory", LIMITS_FILE=limits_file, DRAIN_TIME="1h") as daemon:
        daemon.process.send_signal(signal.SIGTERM)
        harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
        for _ in range(10):
            daemon.process.send_signal(signal.SIGHUP)
            assert daemon.allow("user")
        # And the file is still watched.
        replace(limits_file, limits_yaml(b=7))
        wait_for_reloads(daemon, 1, 0, 1)
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(timeout=20) == 1


def test_a_bad_file_keeps_the_old_limits(daemon, limits_file):
    before = loaded_at(daemon)
    replace(limits_file, "limits: [{name: b, capacity: -1, refill: 1 per 1s}]\n")
    wait_for_reloads(daemon, 0, 1, 0)
    assert deciding(daemon) == ("a", 5, 4)
    assert loaded_at(daemon) == before
    daemon.await_log("the old limits stay", f"{limits_file}:1:")
    replace(limits_file, limits_yaml(b=7))
    wait_for_reloads(daemon, 1, 1, 1)
    assert deciding(daemon) == ("b", 7, 6)


def test_a_deleted_file_keeps_the_old_limits(daemon, limits_file):
    limits_file.unlink()
    wait_for_reloads(daemon, 0, 1, 0)
    assert deciding(daemon) == ("a", 5, 4)
    daemon.await_log("the old limits stay", "No such file")
    limits_file.write_text(limits_yaml(a=5))
    wait_for_reloads(daemon, 1, 1, 1)
    assert deciding(daemon) == ("a", 5, 3)


def test_tokens_carry_over_when_the_numbers_change(daemon, limits_file):
    for left in (4, 3, 2):
        assert deciding(daemon) == ("a", 5, left)
    deciding(daemon, "other")
    for count, (capacity, left) in enumerate([(10, 1), (3, 0)], start=1):
        replace(limits_file, limits_yaml(a=capacity))
        wait_for_reloads(daemon, count, 0, 1)
        assert deciding(daemon) == ("a", capacity, left)
    assert not daemon.allow("user")["allowed"]
    # The other had more than the lowered capacity lets it keep.
    assert deciding(daemon, "other") == ("a", 3, 2)
    assert deciding(daemon, "new") == ("a", 3, 2)


def test_a_limit_that_comes_back_finds_its_buckets(daemon, limits_file):
    deciding(daemon)
    for count, (names, expected) in enumerate([({"b": 9}, ("b", 9, 8)), ({"a": 5}, ("a", 5, 3))],
                                              start=1):
        replace(limits_file, limits_yaml(**names))
        wait_for_reloads(daemon, count, 0, 1)
        assert deciding(daemon) == expected


def test_no_call_fails_while_files_alternate(daemon, limits_file):
    answers = []

    def call():
        answer = daemon.allow("user", details=True)
        answers.append((answer["allowed"], tuple(state["name"] for state in answer["limits"])))

    files = [limits_yaml("1 per 1s", **dict.fromkeys(names, 10**9))
             for names in (("a1", "a2"), ("b",))]
    replace(limits_file, files[0])
    wait_for_reloads(daemon, 1, 0, 1)
    with harness.load(call, callers=4) as outcomes:
        for count in range(2, 42):
            replace(limits_file, files[(count + 1) % 2])
            wait_for_reloads(daemon, count, 0, 1)
    assert [outcome for outcome in outcomes if outcome.error is not None] == []
    assert set(answers) == {(True, ("a1", "a2")), (True, ("b",))}
