"""The image: its Dockerfile by itself and beside what else names packages; and, where
`./dev image` has built it and RATELIMITER_IMAGE names it, the image at work."""

import json
import os
import re
import shutil
import subprocess

import pytest

import roots
from roots import harness

ROOT = harness.ROOT
DOCKERFILE = ROOT / "docker/Dockerfile"
HADOLINT = ROOT / "build/tools/venv/bin/hadolint"
USER = 65532

# The package of each library that cmake/Dependencies.cmake asks for; of Threads, libc's.
PACKAGES = {
    "Protobuf": "libprotobuf-dev", "gRPC": "libgrpc++-dev", "absl": "libabsl-dev",
    "prometheus-cpp": "prometheus-cpp-dev", "spdlog": "libspdlog-dev", "CLI11": "libcli11-dev",
    "nlohmann_json": "nlohmann-json3-dev", "PkgConfig": "pkg-config", "hiredis": "libhiredis-dev",
    "yaml-cpp": "libyaml-cpp-dev", "libsystemd": "libsystemd-dev", "cpp-httplib": "libcpp-httplib-dev",
    "OpenSSL": "libssl-dev", "Threads": "g++",
}


def instructions():
    """The Dockerfile's instructions as (keyword, arguments)."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in logical if line.strip()]


def arguments_of(keyword):
    return [arguments for name, arguments in instructions() if name == keyword]


def installed_for_the_build() -> set:
    listed = arguments_of("RUN")[0].split("--no-install-recommends")[1].split("&&")[0]
    return set(listed.split())


# --- The Dockerfile ---


@pytest.mark.skipif(not HADOLINT.exists(), reason="needs hadolint, which ./dev test installs")
def test_hadolint_finds_nothing():
    assert harness.output_of(HADOLINT, DOCKERFILE) == ""


def test_both_stages_are_on_one_pinned_base():
    build, runtime = arguments_of("FROM")
    assert build == f"{runtime} AS build"
    assert re.fullmatch(r"debian:\d+\.\d+-slim", runtime)


def test_what_the_build_needs_is_named_alike_everywhere():
    listed = re.search(r"^PACKAGES=\((.*?)\)", (ROOT / "tools/lib.sh").read_text(), re.MULTILINE | re.DOTALL)
    by_dev = set(listed[1].split())
    by_cmake = set()
    for call in re.findall(r"^(?:find_package|pkg_check_modules)\((.*)\)$",
                           (ROOT / "cmake/Dependencies.cmake").read_text(), re.MULTILINE):
        words = call.split()
        by_cmake.add(PACKAGES[words[-1] if "IMPORTED_TARGET" in words else words[0]])
    assert by_cmake <= by_dev and by_cmake <= installed_for_the_build()
    # What packs, and is no part of building.
    assert installed_for_the_build() - by_dev == {"dpkg-dev", "file"}


def test_the_build_context_is_enough_to_configure(tmp_path):
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source = ROOT / line[1:]
            target = tmp_path / line[1:]
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (build,) = [run for run in arguments_of("RUN") if "cmake --preset" in run]
    configure = build[build.index("cmake"):].split("&&")[0].split()
    harness.output_of(*configure, cwd=tmp_path)


# --- The image ---


def buildah(*words) -> str:
    store = ROOT / "build/image"
    return harness.output_of("buildah", "--root", store / "storage", "--runroot", store / "run",
                             "--storage-driver", "vfs", *words)


@pytest.fixture(scope="module")
def image():
    if not os.environ.get("RATELIMITER_IMAGE"):
        pytest.skip("needs RATELIMITER_IMAGE, which ./dev check image gives when it has built the image")
    return os.environ["RATELIMITER_IMAGE"]


@pytest.fixture(scope="module")
def config(image) -> dict:
    return json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]


@pytest.fixture
def running(image, tmp_path):
    """The image's files, to be read alone."""
    container = buildah("from", "--pull-never", image).strip()
    try:
        with roots.root(tmp_path, roots.READ_ONLY, buildah("mount", container).strip()) as root:
            yield root
    finally:
        buildah("rm", container)


def test_the_image_says_what_it_is(config):
    version = harness.output_of(harness.DAEMON, "--version").split()[1]
    labels = {name.removeprefix("org.opencontainers.image."): value
              for name, value in config["Labels"].items()}
    assert labels["title"] == "ratelimiter" and labels["licenses"] == "Apache-2.0"
    assert labels["version"] == version
    assert config["User"] == f"{USER}:{USER}"
    assert sorted(config["ExposedPorts"]) == ["2112/tcp", "50051/tcp"]
    assert config["Entrypoint"] == ["ratelimiterd"]


def test_the_image_serves_on_a_read_only_root_and_knows_whether_it_does(running, config):
    path = next(value for value in config["Env"] if value.startswith("PATH="))
    kind, *healthcheck = config["Healthcheck"]["Test"]
    assert kind == "CMD"
    with pytest.raises(OSError, match="Read-only"):
        running.path("written").write_text("")

    def is_healthy(daemon) -> bool:
        asked = running.run("env", "-i", path, f"PORT={daemon.port}", *healthcheck, user=USER)
        return asked.returncode == 0

    with harness.redis_server() as redis:
        program, *command = running.command(*config["Entrypoint"], user=USER)
        with harness.daemon(*command, program=program, REDIS_URL=redis.url) as daemon:
            assert daemon.allow("user")["allowed"]
            harness.wait_until(lambda: is_healthy(daemon), what="health")
            redis.kill()
            harness.wait_until(lambda: daemon.health() == "NOT_SERVING", what="NOT_SERVING")
            assert not is_healthy(daemon)
            redis.start()
            harness.wait_until(lambda: daemon.health() == "SERVING", what="SERVING")
            harness.wait_until(lambda: is_healthy(daemon), what="health")
            assert daemon.terminate() == 0
            assert not is_healthy(daemon)


def test_the_image_holds_no_more_than_it_runs(running):
    """Neither what has built it nor what apt has fetched."""
    for name in ("src", "usr/bin/g++", "usr/bin/cmake", "usr/include/grpcpp", "root/.cache"):
        assert not running.path(name).exists(), name
    assert list(running.path("var/lib/apt/lists").iterdir()) == []
    programs = running.output_of("ldd", "/usr/bin/ratelimiterd", "/usr/bin/rlctl")
    assert "not found" not in programs
