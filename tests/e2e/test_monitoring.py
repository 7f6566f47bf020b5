"""The monitoring stack and the compose files.

Each file by itself and how they refer to each other, without a container
engine; then the dashboards' queries and the rules, asked of a real Prometheus that
scrapes what monitoring/README.md has a newcomer run.
"""

import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.parse
from pathlib import Path

import harness
import monitoring
import pytest
from harness import ROOT, output_of
from monitoring import CONFIG, DASHBOARDS, MONITORING, RULE_TESTS, RULES, load, panels

GRAFANA = MONITORING / "grafana"
OVERVIEW = GRAFANA / "dashboards/overview.json"
README = (MONITORING / "README.md").read_text()
RUNBOOK = (ROOT / "docs/operate/runbook.md").read_text()
DOCKERFILE = ROOT / "docker/Dockerfile"
TOOLS = ROOT / "build" / "tools"
COMPOSE_FILES = [MONITORING / "docker-compose.yml", ROOT / "docker/compose.yml"]

DOCUMENTED_QUERIES = [
    "rate_limiter_requests_total",
    "sum by(status) (rate(rate_limiter_requests_total[1m]))",
    "histogram_quantile(0.95, rate(redis_latency_seconds_bucket[1m]))",
    "sum by(user) (rate(rate_limiter_requests_total[1m]))",
]


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
    if "extends" in service:
        base = (compose.parent / service["extends"]["file"]).resolve()
        assert base in COMPOSE_FILES and service["extends"]["service"] in load(base)["services"]
    assert sum(word in service for word in ("image", "build", "extends")) == 1
    if "image" in service:
        assert is_pinned(service["image"]), service["image"]
    if "build" in service:
        context = (compose.parent / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]) == DOCKERFILE
    for port in service.get("ports", []):
        assert re.fullmatch(r"(127\.0\.0\.1:)?\d+:\d+", port), port
    for mount in service.get("volumes", []):
        check_mount(mount, compose, document.get("volumes", {}))
    for name, dependency in service.get("depends_on", {}).items():
        assert dependency == {"condition": "service_healthy"}
        assert "healthcheck" in document["services"][name] or "build" in document["services"][name]


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


def test_the_fleet_is_seen_as_monitoring_has_it():
    fleet = load(ROOT / "docker/compose.yml")
    monitored = load(MONITORING / "docker-compose.yml")
    for name in monitored["services"]:
        assert fleet["services"][name]["extends"] == {
            "file": "../monitoring/docker-compose.yml",
            "service": name,
        }
    assert fleet["volumes"] == monitored["volumes"]
    # Of what is mounted only the configuration is another: what to scrape.
    (mount,) = fleet["services"]["prometheus"]["volumes"]
    assert mount.split(":")[1] == "/etc/prometheus/prometheus.yml"
    ours, theirs = load(ROOT / "docker/prometheus.yml"), load(CONFIG)
    (our_job,), (their_job,) = ours.pop("scrape_configs"), theirs.pop("scrape_configs")
    assert ours == theirs
    assert our_job["job_name"] == their_job["job_name"]


# --- Prometheus and Grafana files ---


def mounts_of(service):
    """Where a composed service's files come from, by where it finds them."""
    volumes = load(MONITORING / "docker-compose.yml")["services"][service]["volumes"]
    words = [volume.split(":") for volume in volumes]
    return {target: (MONITORING / source).resolve() for source, target, *_ in words}


def test_prometheus_scrapes_both_instances():
    config = load(CONFIG)
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "ratelimiter"
    assert job["static_configs"] == [
        {"targets": ["host.docker.internal:2112", "host.docker.internal:2113"]}
    ]
    # A rate over [1m] needs several samples.
    assert int(config["global"]["scrape_interval"].removesuffix("s")) <= 15


def test_prometheus_finds_its_rules():
    assert load(CONFIG)["rule_files"] == ["rules/*.yml"]
    mounts = mounts_of("prometheus")
    assert mounts["/etc/prometheus/prometheus.yml"] == CONFIG
    assert RULES and mounts["/etc/prometheus/rules"] == RULES[0].parent


def test_promtool_accepts_configuration_and_rules():
    output_of("promtool", "check", "config", CONFIG)
    output_of("promtool", "check", "rules", *RULES)


def test_promtool_passes_the_tests_of_the_rules():
    output_of("promtool", "test", "rules", *RULE_TESTS)


def test_datasource_is_the_composed_prometheus():
    (datasource,) = load(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert (datasource["type"], datasource["uid"]) == ("prometheus", "prometheus")
    url = urllib.parse.urlsplit(datasource["url"])
    prometheus = load(MONITORING / "docker-compose.yml")["services"][url.hostname]
    assert prometheus["ports"][0].endswith(f":{url.port}")
    assert datasource["jsonData"]["timeInterval"] == load(CONFIG)["global"]["scrape_interval"]


def test_dashboards_are_mounted_where_grafana_looks():
    (provider,) = load(GRAFANA / "provisioning/dashboards/ratelimiter.yml")["providers"]
    mounts = mounts_of("grafana")
    assert mounts[provider["options"]["path"]] == OVERVIEW.parent
    for kind in ("datasources", "dashboards"):
        assert mounts[f"/etc/grafana/provisioning/{kind}"] == GRAFANA / "provisioning" / kind
    grafana = load(MONITORING / "docker-compose.yml")["services"]["grafana"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert mounts[str(home.parent)] / home.name == OVERVIEW


@pytest.mark.parametrize("path", DASHBOARDS, ids=relative)
def test_dashboard_is_what_file_provisioning_can_load(path):
    text = path.read_text()
    # Placeholders of an import by hand: provisioning does not fill them in.
    assert "${DS_" not in text and "__inputs" not in text
    dashboard = json.loads(text)
    assert dashboard["schemaVersion"] <= 42
    assert dashboard["uid"] and dashboard["title"] and dashboard["description"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_dashboards_are_three_that_link_each_other():
    dashboards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({dashboard["uid"] for dashboard in dashboards}) == len(DASHBOARDS) == 3
    for dashboard in dashboards:
        (link,) = dashboard["links"]
        assert link["type"] == "dashboards" and link["tags"] == dashboard["tags"] == ["ratelimiter"]
        assert f"](grafana/dashboards/{DASHBOARDS[dashboards.index(dashboard)].name})" in README


# A dashboard as a program whose types Grafana's must be: enums are their values
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


def check_types(dashboards, directory):
    (directory / "node_modules").symlink_to(TOOLS / "node_modules")
    files = [f"{number}.ts" for number in range(len(dashboards))]
    for file, dashboard in zip(files, dashboards):
        (directory / file).write_text(TYPED_DASHBOARD + dashboard)
    return subprocess.run(
        [TSC, "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", *files],
        cwd=directory,
        capture_output=True,
        text=True,
    )


@needs_tsc
def test_dashboards_have_the_types_of_grafana(tmp_path):
    checked = check_types([path.read_text() for path in DASHBOARDS], tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_tsc
def test_what_is_not_of_the_types_of_grafana_is_found(tmp_path):
    text = OVERVIEW.read_text()
    spoilt = [
        ('"schemaVersion"', '"schemaVersoin"'),
        ('"graphTooltip": 1', '"graphTooltip": "1"'),
        ('"mode": "absolute"', '"mode": "absolut"'),
        ('"gridPos": {"x"', '"gridPos": {"left"'),
    ]
    assert all(right in text for right, _ in spoilt)
    checked = check_types([text.replace(right, wrong, 1) for right, wrong in spoilt], tmp_path)
    found = set(re.findall(r"^(\d)\.ts.*error TS", checked.stdout, re.MULTILINE))
    assert found == {"0", "1", "2", "3"}, checked.stdout + checked.stderr


ALL_PANELS = [(path, panel) for path in DASHBOARDS for panel in panels(path)]


def name_of(value):
    return value["title"] if isinstance(value, dict) else value.stem


@pytest.mark.parametrize("path, panel", ALL_PANELS, ids=name_of)
def test_panel_explains_itself(path, panel):
    assert panel["type"] in ("timeseries", "stat", "table")
    assert panel["title"] and panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for part in (panel, *panel["targets"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "prometheus"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=relative)
def test_panels_do_not_overlap(path):
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels(path))
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24  # Grafana's columns.


def queries():
    """Every query of a dashboard as (dashboard, panel title, expression)."""
    return [
        (path.stem, panel["title"], target["expr"])
        for path, panel in ALL_PANELS
        for target in panel["targets"]
    ]


def test_overview_has_the_documented_queries():
    asked = {expression for dashboard, _, expression in queries() if dashboard == OVERVIEW.stem}
    assert set(DOCUMENTED_QUERIES) <= asked
    assert all(f"| `{query}` |" in README for query in DOCUMENTED_QUERIES)


def test_rates_follow_the_scrape_interval():
    for *_, expression in queries():
        if expression not in DOCUMENTED_QUERIES:
            assert not re.search(r"rate\([^)]*\[\d", expression), expression


# --- Alerts: that none is forgotten ---

ALERTS = monitoring.rules("alert")


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_tells_what_to_know(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operate/runbook.md#{alert.lower()}"
    row = rf"\| \[{alert}\]\(\.\./{rule['annotations']['runbook_url']}\) \| .+ \| (\w+) \| (\w+) \|"
    assert re.findall(row, README) == [(rule["for"], rule["labels"]["severity"])]


def section_of(alert):
    """What the runbook says of it."""
    (section,) = re.findall(rf"^## {alert}\n(.*?)(?=^## |\Z)", RUNBOOK, re.DOTALL | re.MULTILINE)
    return section


def block_of(alert, kind):
    """What there is to run, or to query, in its section."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", section_of(alert), re.DOTALL)
    return block


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_has_a_section_of_the_runbook(alert):
    parts = re.findall(r"^\*\*(\w+):\*\*", section_of(alert), re.MULTILINE)
    assert parts == ["Means", "Look", "Do"]


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_has_a_unit_test(alert):
    tests = [test for path in RULE_TESTS for test in load(path)["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert]
    # Not yet, then firing, and no more.
    assert ["exp_alerts" in case for case in cases] == [False, True, False]


def test_what_is_told_of_alerts_is_of_those_that_there_are():
    told = set(re.findall(r"\bRateLimiter[A-Z]\w+", README + RUNBOOK))
    assert told == set(ALERTS)
    assert set(re.findall(r"^## (RateLimiter\w+)", RUNBOOK, re.MULTILINE)) == set(ALERTS)


# --- Against real processes ---


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    instances = tmp_path_factory.mktemp("instances")
    with monitoring.newcomers_instances(instances) as ports:
        directory = tmp_path_factory.mktemp("prometheus")
        # And one over TLS, which a newcomer has not.
        certificates = harness.Certificates(tmp_path_factory.mktemp("certificates"))
        with harness.daemon(**certificates.server()) as over_tls, monitoring.prometheus(directory, {
            "ratelimiter": [ports["2112"], ports["2113"]],
            "ratelimiter-tls": [over_tls.metrics_port],
        }) as api:
            # The usual share comes half an hour after the first, a sixtieth of it here.
            yield api, time.monotonic() + 90


ASKED = [
    *queries(),
    *(("rules", name, name) for name in monitoring.rules("record")),
    # Those that show what is not 0 show nothing while all is well.
    *(
        ("runbook", alert, query.removesuffix(" > 0"))
        for alert in ALERTS
        for query in block_of(alert, "promql").splitlines()
    ),
    *(("README", "queries", query) for query in re.findall(r"^\| `(.*?)` \|", README, re.MULTILINE)),
]


@pytest.mark.parametrize("dashboard, title, expression", ASKED)
def test_expression_returns_data(dashboard, title, expression, prometheus):
    api, until = prometheus
    asked = monitoring.as_grafana_asks(expression)
    harness.wait_until(
        lambda: any(math.isfinite(value) for value in api.query(asked)),
        timeout=until - time.monotonic(),
        what=f"data for “{title}”: {asked}",
    )


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Runs a command of the runbook on a daemon's machine: what it prints."""
    limits = tmp_path_factory.mktemp("limits") / "limits.yaml"
    limits.write_text("limits: [{name: calls, capacity: 5, refill: 1 per 2s}]")
    certificates = harness.Certificates(tmp_path_factory.mktemp("certificates"))
    settings = certificates.server() | {"STORE": "redis", "LIMITS_FILE": limits}
    with harness.redis_server() as redis, harness.daemon(
        REDIS_URL=redis.url, ADMIN_PORT=0, **settings
    ) as daemon:
        environment = harness.clean_environment(
            **settings,
            REDIS_URL=redis.url,
            RLCTL_TLS_CA=certificates.path("ca.crt"),
            PORT=daemon.port,
            ADMIN_PORT=daemon.admin_port,
        )
        environment["PATH"] = f"{harness.RLCTL.parent}:{environment['PATH']}"

        def run(command):
            command = command.replace("localhost:2112", f"localhost:{daemon.metrics_port}")
            command = command.replace("localhost:8081", f"localhost:{daemon.admin_port}")
            return output_of("bash", "-euo", "pipefail", "-c", command, env=environment, timeout=20)

        yield run


@pytest.mark.parametrize("alert", ALERTS)
def test_commands_of_the_runbook_work(alert, machine):
    for command in block_of(alert, "sh").splitlines():
        # An empty answer may be one, of SLOWLOG alone.
        assert machine(command).strip() or "SLOWLOG" in command


def test_promtool_accepts_the_metrics():
    with harness.redis_server() as redis:
        for settings in ({"REDIS_URL": redis.url}, {"STORE": "memory"}):
            with harness.daemon(**settings) as daemon:
                daemon.allow("alice")
                output_of("promtool", "check", "metrics", input=daemon.metrics())
