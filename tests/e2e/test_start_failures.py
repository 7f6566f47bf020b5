"""Whatever a start fails for, stderr says it, and the exit code is not a signal's."""

import os
import resource
import subprocess

import pytest

import harness

MIB = 1 << 20


@pytest.mark.parametrize("mebibytes", [64, 100, 150, 200, 300, 450, 600, 750, 900, 1000])
def test_a_start_without_memory_says_why_it_failed(mebibytes):
    bound = mebibytes * MIB
    started = subprocess.run(
        [harness.DAEMON], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "STORE": "memory", "PORT": "0", "METRICS_PORT": "0", "ADMIN_PORT": "0",
             "BIND": "127.0.0.1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (bound, bound)))
    assert started.returncode == 1, started
    assert "cannot start: " in started.stderr and "ulimit -v" in started.stderr, started
