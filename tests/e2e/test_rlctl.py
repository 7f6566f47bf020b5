"""rlctl healthcheck: what it says and exits with, for people, compose files and images."""

import subprocess

import pytest

import harness


def healthcheck(*flags, **environment) -> subprocess.CompletedProcess:
    return subprocess.run([harness.RLCTL, "healthcheck", *flags], timeout=20, capture_output=True,
                          text=True, env=harness.clean_environment(**environment))


@pytest.fixture(scope="module")
def serving():
    with harness.daemon(STORE="memory") as daemon:
        yield daemon


def ways(port) -> list:
    """(flags, environment) by which the daemon on that port is asked."""
    return [([], {"PORT": port}), (["--port", str(port)], {"PORT": 1}),
            (["--target", f"127.0.0.1:{port}"], {"PORT": 1})]


@pytest.mark.parametrize("way", range(3), ids=["PORT", "--port", "--target"])
def test_a_daemon_that_serves(way, serving):
    flags, environment = ways(serving.port)[way]
    done = healthcheck(*flags, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f":{serving.port} is SERVING" in done.stdout


@pytest.mark.parametrize("way", range(3), ids=["PORT", "--port", "--target"])
def test_a_daemon_that_is_not_ready(way):
    redis = f"redis://127.0.0.1:{harness.free_port()}"
    with harness.daemon(REDIS_URL=redis) as daemon:
        flags, environment = ways(daemon.port)[way]
        done = healthcheck(*flags, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert f":{daemon.port} is NOT_SERVING" in done.stderr


@pytest.mark.parametrize("way", range(3), ids=["PORT", "--port", "--target"])
def test_no_daemon(way):
    port = harness.free_port()
    flags, environment = ways(port)[way]
    done = healthcheck(*flags, **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert f":{port} does not answer" in done.stderr and "--target" in done.stderr


def test_a_server_that_never_answers_is_given_up():
    def silent(connection):
        while connection.recv(65536):
            pass

    with harness.fake_server(silent) as port:
        done = healthcheck(PORT=port)
        assert (done.returncode, done.stdout) == (1, "")
        assert f":{port} does not answer" in done.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_no_proxy_is_asked(variable, serving):
    proxy = f"http://127.0.0.1:{harness.free_port()}"
    for flags, environment in ways(serving.port):
        done = healthcheck(*flags, **environment, **{variable: proxy})
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [
    [], ["no-such-command"], ["healthcheck", "--no-such"], ["healthcheck", "--port", "65536"],
    ["healthcheck", "--port", "http"], ["healthcheck", "--target"],
], ids=" ".join)
def test_a_usage_error(words):
    done = subprocess.run([harness.RLCTL, *words], timeout=20, capture_output=True, text=True,
                          env=harness.clean_environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert "--help" in done.stderr
