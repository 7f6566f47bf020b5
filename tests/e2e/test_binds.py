"""Where the daemon listens: BIND, METRICS_BIND and ADMIN_BIND with addresses of both families."""

import pathlib
import re
import socket
import subprocess
import urllib.request

import pytest

import harness

HAS_IPV6 = True
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


def test_without_ipv6_it_starts_and_says_where_it_listens(tmp_path):
    library = tmp_path / "no_ipv6.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library,
                    pathlib.Path(__file__).parent / "no_ipv6.c"], check=True)
    # The sanitizers' runtime has to come before a preloaded library, and says so.
    with harness.daemon(STORE="memory", BIND=None, METRICS_BIND=None, ADMIN_PORT="0",
                        ADMIN_BIND="::", LD_PRELOAD=library,
                        ASAN_OPTIONS="verify_asan_link_order=0") as daemon:
        assert re.search(r"gRPC on 0\.0\.0\.0 port \d+, metrics on 0\.0\.0\.0 port \d+, "
                         r"admin on 0\.0\.0\.0 port \d+", daemon.start_line)
        assert daemon.allow("user")["allowed"]
        assert "rate_limiter_build_info" in daemon.metrics()
