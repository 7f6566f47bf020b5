"""The monitoring stack and the container files.

Each file by itself and how they refer to each other, without a container
engine; then the dashboard's queries, asked of a real Prometheus that scrapes
real daemons.
"""

import json
import math
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import harness
import pytest
import yaml
from harness import output_of

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
GRAFANA = MONITORING / "grafana"
DASHBOARD = GRAFANA / "dashboards/ratelimiter.json"
DOCKERFILE = ROOT / "docker/Dockerfile"
TOOLS = ROOT / "build" / "tools"
COMPOSE_FILES = [MONITORING / "docker-compose.yml", ROOT / "docker/compose.yml"]

DOCUMENTED_QUERIES = [
    "rate_limiter_requests_total",
    "sum by(status) (rate(rate_limiter_requests_total[1m]))",
    "histogram_quantile(0.95, rate(redis_latency_seconds_bucket[1m]))",
    "sum by(user) (rate(rate_limiter_requests_total[1m]))",
]


def load(path):
    return yaml.safe_load(path.read_text())


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def relative(path):
    return str(path.relative_to(ROOT))


def is_pinned(image):
    """Names at least a minor version, so that `latest`, `3` and `bookworm` are not."""
    return re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image) is not None


# --- Compose files ---


def check_mount(mount, compose, volumes):
    source, target, *mode = mount.split(":")
    assert target.startswith("/"), mount
    if source.startswith("."):
        assert (compose.parent / source).exists(), f"{mount}: nothing is there to mount"
        assert mode == ["ro"], f"{mount}: configuration is mounted read-only"
    else:
        assert source in volumes, f"{mount}: no such volume"


def check_service(service, compose, document):
    assert ("image" in service) != ("build" in service)
    if "image" in service:
        assert is_pinned(service["image"]), service["image"]
    else:
        context = (compose.parent / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]) == DOCKERFILE
    for port in service.get("ports", []):
        assert re.fullmatch(r"(127\.0\.0\.1:)?\d+:\d+", port), port
    for mount in service.get("volumes", []):
        check_mount(mount, compose, document.get("volumes", {}))
    for name, dependency in service.get("depends_on", {}).items():
        assert dependency == {"condition": "service_healthy"}
        assert "healthcheck" in document["services"][name]


@pytest.mark.parametrize("compose", COMPOSE_FILES, ids=relative)
def test_compose_file_is_sound(compose):
    document = load(compose)
    assert document["services"]
    for service in document["services"].values():
        check_service(service, compose, document)


def check_schema(compose):
    tool = TOOLS / "venv/bin/check-jsonschema"
    return subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", compose], capture_output=True, text=True
    )


@pytest.mark.parametrize("compose", COMPOSE_FILES, ids=relative)
def test_compose_file_keeps_the_specification(compose):
    checked = check_schema(compose)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("right, wrong", [("image:", "imgae:"), ("ports: [", "ports: [[], ")])
@pytest.mark.parametrize("compose", COMPOSE_FILES, ids=relative)
def test_what_is_not_in_the_specification_is_found(compose, right, wrong, tmp_path):
    (tmp_path / "compose.yml").write_text(compose.read_text().replace(right, wrong, 1))
    checked = check_schema(tmp_path / "compose.yml")
    assert checked.returncode == 1
    assert "Schema validation errors" in checked.stdout + checked.stderr


def has_compose_plugin():
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_compose_plugin(), reason="needs the docker compose plugin")
@pytest.mark.parametrize("compose", COMPOSE_FILES, ids=relative)
def test_docker_compose_accepts(compose):
    output_of("docker", "compose", "-f", compose, "config", "--quiet")


def test_monitoring_is_where_the_documentation_says():
    services = load(MONITORING / "docker-compose.yml")["services"]
    assert services["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    assert "host.docker.internal:host-gateway" in services["prometheus"]["extra_hosts"]
    assert services["grafana"]["ports"] == ["127.0.0.1:3000:3000"]
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_USER"] == "admin"
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "admin"


def test_instances_share_one_redis_that_keeps_every_bucket():
    services = load(ROOT / "docker/compose.yml")["services"]
    redis = services.pop("redis")
    assert redis["command"] == [
        *("redis-server", "--save", "", "--appendonly", "no"),
        *("--maxmemory-policy", "noeviction"),
    ]
    assert sorted(service["ports"] for service in services.values()) == [
        ["50051:50051", "2112:2112"],
        ["50052:50051", "2113:2112"],
    ]
    for service in services.values():
        assert service["environment"] == {"STORE": "redis", "REDIS_URL": "redis://redis:6379"}
        assert "redis" in service["depends_on"]


# --- Image ---


def instructions():
    """The Dockerfile's instructions as (keyword, arguments)."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in logical if line.strip()]


def arguments_of(keyword):
    return [arguments for name, arguments in instructions() if name == keyword]


def test_image_has_two_stages_on_one_pinned_base():
    build, runtime = arguments_of("FROM")
    assert build == f"{runtime} AS build"
    assert is_pinned(runtime) and runtime.endswith("-slim")
    assert sum("--from=build" in copy for copy in arguments_of("COPY")) == 1


def test_image_runs_the_daemon_as_an_unprivileged_number():
    (user,) = arguments_of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    (entrypoint,) = arguments_of("ENTRYPOINT")
    assert json.loads(entrypoint) == ["ratelimiterd"]
    assert arguments_of("EXPOSE") == ["50051 2112"]


def test_image_is_checked_by_its_own_tool():
    (healthcheck,) = arguments_of("HEALTHCHECK")
    assert json.loads(healthcheck.split(" CMD ")[1]) == ["rlctl", "healthcheck"]


def test_build_context_is_enough_to_configure(tmp_path):
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source = ROOT / line[1:]
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, tmp_path / source.name)
    (build,) = [run for run in arguments_of("RUN") if run.startswith("cmake")]
    configure = build.split("&&")[0].split()
    output_of(*configure, cwd=tmp_path)


def with_dependencies(packages):
    listing = output_of("apt-cache", "depends", "--recurse", "--important", *packages)
    return {line for line in listing.splitlines() if line[0].isalnum()}


def is_what_the_image_holds():
    release = Path("/etc/os-release")
    bookworm = release.exists() and "VERSION_CODENAME=bookworm" in release.read_text()
    return bookworm and harness.BUILD.name == "release"


@pytest.mark.skipif(not is_what_the_image_holds(), reason="needs a release build on Debian 12")
def test_image_installs_every_library():
    install = arguments_of("RUN")[-1].split("--no-install-recommends")[1].split("&&")[0]
    installed = with_dependencies(install.split())
    linked = re.findall(r"=> (/\S+)", output_of("ldd", harness.DAEMON, harness.RLCTL))
    # By the last folder, for packages disagree on whether /lib is /usr/lib.
    files = {"/".join(("*", *Path(library).parts[-2:])) for library in linked}
    owners = output_of("dpkg-query", "--search", *files).splitlines()
    missing = [owner for owner in owners if owner.split(":")[0] not in installed]
    assert linked and not missing


# --- Prometheus and Grafana files ---


def test_prometheus_scrapes_both_instances():
    config = load(MONITORING / "prometheus/prometheus.yml")
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "ratelimiter"
    assert job["static_configs"] == [
        {"targets": ["host.docker.internal:2112", "host.docker.internal:2113"]}
    ]
    # A rate over [1m] needs several samples.
    assert int(config["global"]["scrape_interval"].removesuffix("s")) <= 15


def test_promtool_accepts_the_configuration():
    output_of("promtool", "check", "config", MONITORING / "prometheus/prometheus.yml")


def test_datasource_is_the_composed_prometheus():
    (datasource,) = load(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert (datasource["type"], datasource["uid"]) == ("prometheus", "prometheus")
    url = urllib.parse.urlsplit(datasource["url"])
    prometheus = load(MONITORING / "docker-compose.yml")["services"][url.hostname]
    assert prometheus["ports"][0].endswith(f":{url.port}")
    config = load(MONITORING / "prometheus/prometheus.yml")
    assert datasource["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_dashboard_is_mounted_where_grafana_looks():
    (provider,) = load(GRAFANA / "provisioning/dashboards/ratelimiter.yml")["providers"]
    grafana = load(MONITORING / "docker-compose.yml")["services"]["grafana"]
    mounts = {}
    for mount in grafana["volumes"]:
        source, target, _ = mount.split(":")
        mounts[target] = (MONITORING / source).resolve()
    assert mounts[provider["options"]["path"]] == DASHBOARD.parent
    for kind in ("datasources", "dashboards"):
        assert mounts[f"/etc/grafana/provisioning/{kind}"] == GRAFANA / "provisioning" / kind
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert mounts[str(home.parent)] / home.name == DASHBOARD


def test_dashboard_is_what_file_provisioning_can_load():
    text = DASHBOARD.read_text()
    # Placeholders of an import by hand: provisioning does not fill them in.
    assert "${DS_" not in text and "__inputs" not in text
    dashboard = json.loads(text)
    assert dashboard["schemaVersion"] <= 42
    assert dashboard["uid"] and dashboard["title"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


# The dashboard as a program whose types Grafana's must be: enums are their values
# in JSON, and what `any` stands for is not looked into.
TYPED_DASHBOARD = """
import type { Dashboard } from "@grafana/schema";
type Json<T> =
  0 extends 1 & T ? T
  : T extends string ? `${T}`
  : T extends object ? { [Key in keyof T]: Json<T[Key]> }
  : T;
export const dashboard: Json<Dashboard> =
"""
TSC = TOOLS / "node_modules/.bin/tsc"
# Not everyone has npm, which installs it; where CI has, the check must run.
needs_tsc = pytest.mark.skipif(
    not TSC.exists() and not ("CI" in os.environ and shutil.which("npm")),
    reason="needs TypeScript, which ./dev installs where there is npm",
)


def check_types(dashboard, directory):
    (directory / "node_modules").symlink_to(TOOLS / "node_modules")
    (directory / "dashboard.ts").write_text(TYPED_DASHBOARD + dashboard)
    return subprocess.run(
        [TSC, "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "dashboard.ts"],
        cwd=directory,
        capture_output=True,
        text=True,
    )


@needs_tsc
def test_dashboard_has_the_types_of_grafana(tmp_path):
    checked = check_types(DASHBOARD.read_text(), tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_tsc
@pytest.mark.parametrize(
    "right, wrong",
    [
        ('"schemaVersion"', '"schemaVersoin"'),
        ('"graphTooltip": 1', '"graphTooltip": "1"'),
        ('"mode": "absolute"', '"mode": "absolut"'),
        ('"gridPos": {"x"', '"gridPos": {"left"'),
    ],
)
def test_what_is_not_of_the_types_of_grafana_is_found(right, wrong, tmp_path):
    text = DASHBOARD.read_text()
    assert right in text
    checked = check_types(text.replace(right, wrong, 1), tmp_path)
    assert "error TS" in checked.stdout, checked.stdout + checked.stderr


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_panel_explains_itself(panel):
    assert panel["type"] in ("timeseries", "stat")
    assert panel["title"] and panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for part in (panel, *panel["targets"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "prometheus"}


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels())
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24  # Grafana's columns.


def queries():
    """Every query of the dashboard as (panel title, expression)."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def test_dashboard_has_the_documented_queries():
    assert set(DOCUMENTED_QUERIES) <= {expression for _, expression in queries()}


# --- Against real processes ---


@pytest.fixture(scope="module")
def daemons():
    with harness.redis_server() as redis:
        shared = {"STORE": "redis", "REDIS_URL": redis.url}
        with harness.daemon(**shared) as first, harness.daemon(**shared) as second:
            with harness.daemon(STORE="memory") as alone:
                yield [first, second, alone]


class Prometheus:
    """The HTTP API of a Prometheus on loopback."""

    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def is_ready(self):
        try:
            return self._opener.open(f"{self._url}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def query(self, expression):
        """The instant vector as a list of floats."""
        parameters = urllib.parse.urlencode({"query": expression})
        with self._opener.open(f"{self._url}/api/v1/query?{parameters}", timeout=5) as response:
            series = json.load(response)["data"]["result"]
        return [float(one["value"][1]) for one in series]


@pytest.fixture(scope="module")
def prometheus(daemons, tmp_path_factory):
    directory = tmp_path_factory.mktemp("prometheus")
    config = load(MONITORING / "prometheus/prometheus.yml")
    config["global"]["scrape_interval"] = "1s"
    targets = [f"127.0.0.1:{daemon.metrics_port}" for daemon in daemons]
    config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))

    port = harness.free_port()
    with (directory / "log").open("w") as log:
        process = harness.start(
            [
                "prometheus",
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            log,
        )
    try:
        api = Prometheus(port)
        harness.wait_until(api.is_ready, timeout=30, what="Prometheus to be ready")
        yield api
    finally:
        harness.end(process)


def as_grafana_asks(expression):
    for macro, value in {"$__rate_interval": "1m", "$__interval": "5s", "$__range": "15m"}.items():
        expression = expression.replace(macro, value)
    assert "$" not in expression, f"{expression}: a macro that this test does not know"
    return expression


@pytest.mark.parametrize("title, expression", queries(), ids=[title for title, _ in queries()])
def test_query_returns_data(title, expression, daemons, prometheus):
    asked = as_grafana_asks(expression)

    def has_data():
        # Traffic goes on while waiting, for a rate needs a counter that moves.
        for daemon in daemons:
            daemon.allow("alice")
            daemon.allow("bob")
        return any(math.isfinite(value) for value in prometheus.query(asked))

    harness.wait_until(has_data, timeout=30, what=f"data for “{title}”: {asked}")


def test_promtool_accepts_the_metrics(daemons):
    for daemon in daemons:
        daemon.allow("alice")
        output_of("promtool", "check", "metrics", input=daemon.metrics())
