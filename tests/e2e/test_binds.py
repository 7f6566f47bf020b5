"""Where the daemon listens: BIND, METRICS_BIND and ADMIN_BIND with addresses of both families."""

import re
import shutil
import socket
import subprocess
import urllib.request

import pytest

import harness

HAS_IPV6 = socket.has_ipv6
try:
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
except OSError:
    HAS_IPV6 = False

# A setting's value, and whether it listens on 127.0.0.1 and on ::1. None: unset.
BINDS = {
    "0.0.0.0": (True, False),
    "::": (True, True),
    "127.0.0.1": (True, False),
    "::1": (False, True),
    "::ffff:127.0.0.1": (True, False),
}
UNSET = {"BIND": (True, True), "METRICS_BIND": (True, True), "ADMIN_BIND": (True, False)}
CASES = [(setting, value, families) for setting in UNSET
         for value, families in [(None, UNSET[setting]), *BINDS.items()]]


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=10).close()
        return True
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("setting, value, families", CASES)
def test_listens_on_the_families_that_the_address_names(setting, value, families):
    on_ipv4, on_ipv6 = families
    if not HAS_IPV6 and not on_ipv4:
        pytest.skip("this machine has no IPv6")
    # The harness sets some of these itself; None takes a setting out.
    with harness.daemon(STORE="memory", ADMIN_PORT="0", **{setting: value}) as daemon:
        port = {"BIND": daemon.port, "METRICS_BIND": daemon.metrics_port,
                "ADMIN_BIND": daemon.admin_port}[setting]
        assert listens("127.0.0.1", port) == on_ipv4
        if HAS_IPV6:
            assert listens("::1", port) == on_ipv6
        host = "127.0.0.1" if on_ipv4 else "[::1]"
        if setting == "METRICS_BIND":
            with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as page:
                assert "rate_limiter_build_info" in page.read().decode()
        elif setting == "ADMIN_BIND":
            with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=10) as page:
                assert page.status == 200


def without_ipv6(*command) -> list:
    """A command in a network of its own that has IPv4's loopback alone."""
    script = ("ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && "
              "exec \"$@\"")
    return ["unshare", "--net", "sh", "-c", script, "sh", *map(str, command)]


def can_do_without_ipv6() -> bool:
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run(without_ipv6("true"), capture_output=True).returncode == 0


@pytest.mark.skipif(not can_do_without_ipv6(), reason="needs root, and iproute2")
def test_without_ipv6_it_starts_and_says_where_it_listens():
    environment = {"STORE": "memory", "PORT": "0", "METRICS_PORT": "0", "ADMIN_PORT": "0",
                   "ADMIN_BIND": "::", "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(without_ipv6(harness.BUILD / "bin/ratelimiterd"), env=environment,
                               stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "ratelimiterd" in line:
                break
        assert re.search(r"gRPC on 0\.0\.0\.0 port \d+, metrics on 0\.0\.0\.0 port \d+, "
                         r"admin on 0\.0\.0\.0 port \d+", lines[-1]), lines
    finally:
        process.terminate()
        process.wait(30)
