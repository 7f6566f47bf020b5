"""The pages with examples, tried: every limits file is accepted, and every command
prints what the page shows, against a real Redis and a daemon with the file above it."""

import os
import pathlib
import re
import subprocess

import pytest

import harness

PAGES = ["README.md", "docs/use/limits.md", "docs/use/rlctl.md"]
BLOCK = re.compile(r"```(yaml|console)\n(.*?)```", re.DOTALL)


def files_and_consoles(page: str) -> list:
    """Each limits file with the console below it, None where another file comes first."""
    pairs = []
    for kind, text in BLOCK.findall((harness.ROOT / page).read_text()):
        if kind == "yaml":
            pairs.append([text, None])
        else:
            assert pairs[-1][1] is None, "one console a file"
            pairs[-1][1] = text
    return pairs


EXAMPLES = [(page, number) for page in PAGES for number in range(len(files_and_consoles(page)))]


def transcript(commands: list, limits: pathlib.Path) -> str:
    """What a person sees who types the commands beside the limits file."""
    printed = ""
    path = f"{harness.RLCTL.parent}:{os.environ['PATH']}"
    with harness.redis_server() as redis, harness.daemon(
            REDIS_URL=redis.url, LIMITS_FILE=limits, ADMIN_PORT=0) as daemon:
        environment = harness.clean_environment(PORT=daemon.port, ADMIN_PORT=daemon.admin_port)
        for command in commands:
            done = subprocess.run(["bash", "-c", command], cwd=limits.parent, timeout=20, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env=environment | {"PATH": path})
            printed += f"$ {command}\n{done.stdout}"
    printed = printed.replace(f"{limits.parent}/", "/etc/ratelimiter/")
    printed = printed.replace(f"localhost:{daemon.port}", "localhost:50051")
    return re.sub(r"loaded [^,]*,", "loaded 2026-01-02T03:04:05Z,", printed)


@pytest.mark.parametrize("page, number", EXAMPLES)
def test_an_example_does_as_shown(page, number, tmp_path):
    text, console = files_and_consoles(page)[number]
    limits = tmp_path / "limits.yaml"
    limits.write_text(text)
    harness.output_of(harness.RLCTL, "limits", "validate", limits)
    if console is not None:
        commands = re.findall(r"^\$ (.*)$", console, re.MULTILINE)
        assert commands
        assert transcript(commands, limits) == console


def test_redis_takes_the_settings_that_it_is_to_have(tmp_path):
    page = (harness.ROOT / "docs/operate/operations.md").read_text()
    (settings,) = re.findall(r"^## Redis\n\n```\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    file = tmp_path / "redis.conf"
    file.write_text(settings)
    redis = harness.Redis()
    redis.process = harness.start(["redis-server", file, "--port", redis.port, "--bind", "127.0.0.1",
                                   "--dir", tmp_path], subprocess.DEVNULL)
    try:
        harness.wait_until(lambda: "PONG" in redis.cli("PING", check=False), what="redis-server")
        for name, value in (("maxmemory", str(256 * 2**20)), ("maxmemory-policy", "noeviction"),
                            ("save", ""), ("appendonly", "no"), ("timeout", "0")):
            assert redis.cli("CONFIG", "GET", name) == f"{name}\n{value}".strip()
    finally:
        harness.end(redis.process)
