"""The files of monitoring/, and a real Prometheus that runs them."""

import contextlib
import json
import os
import pathlib
import re
import signal
import urllib.parse
import urllib.request

import yaml

import harness

MONITORING = harness.ROOT / "monitoring"
CONFIG = MONITORING / "prometheus/prometheus.yml"
RULES = sorted((MONITORING / "prometheus/rules").glob("*.yml"))
RULE_TESTS = sorted((MONITORING / "prometheus/tests").glob("*.yml"))
DASHBOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))

# What the macros of dashboards stand for, where a scrape comes each second.
MACROS = {"$__rate_interval": "10s", "$__interval": "5s", "$__range": "15m"}


def load(path: pathlib.Path):
    return yaml.safe_load(path.read_text())


def rules(kind: str) -> dict:
    """All rules of a kind, "alert" or "record", by name."""
    groups = [group for path in RULES for group in load(path)["groups"]]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def panels(dashboard: pathlib.Path) -> list:
    return json.loads(dashboard.read_text())["panels"]


def as_grafana_asks(expression: str) -> str:
    for macro, value in MACROS.items():
        expression = expression.replace(macro, value)
    assert "$" not in expression, f"{expression}: a macro that is not known here"
    return expression


def shorter(duration: str) -> str:
    """A sixtieth of it."""
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()
    return f"{int(number) * {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[unit] * 1000 // 60}ms"


def shortened(path: pathlib.Path) -> str:
    """A file of rules with all durations divided by 60, so that what takes minutes takes
    seconds."""
    document = load(path)
    for group in document["groups"]:
        group["interval"] = shorter(group["interval"])
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"(?<=\[)\w+(?=\])|(?<=offset )\w+", lambda found: shorter(found[0]),
                                  rule["expr"])
            if "for" in rule:
                rule["for"] = shorter(rule["for"])
    return yaml.safe_dump(document)


class Prometheus:
    """The HTTP API of a Prometheus on loopback."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def is_ready(self) -> bool:
        try:
            return self._opener.open(f"{self.url}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def ask(self, path: str, **parameters):
        with self._opener.open(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}",
                               timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list:
        """The instant vector as a list of floats."""
        return [float(one["value"][1]) for one in self.ask("query", query=expression)["result"]]

    def alerts(self) -> list:
        """Those that are pending or firing."""
        return self.ask("alerts")["alerts"]


@contextlib.contextmanager
def prometheus(directory: pathlib.Path, jobs: dict):
    """One with the project's configuration and rules, that scrapes each second; `jobs`
    has lists of ports of /metrics by the job's name. The rules' durations are divided by
    60, and so is the time for which a sample counts."""
    config = load(CONFIG)
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        for job, ports in jobs.items()]
    (directory / CONFIG.name).write_text(yaml.safe_dump(config))
    (directory / "rules").mkdir()
    for path in RULES:
        (directory / "rules" / path.name).write_text(shortened(path))

    port = harness.free_port()
    with (directory / "log").open("w") as log:
        process = harness.start(
            ["prometheus", f"--config.file={directory}/prometheus.yml",
             f"--storage.tsdb.path={directory}/data", "--query.lookback-delta=5s",
             f"--web.listen-address=127.0.0.1:{port}"], log)
    try:
        api = Prometheus(port)
        harness.wait_until(api.is_ready, timeout=30, what="Prometheus to be ready")
        yield api
    finally:
        harness.end(process)


def newcomer_script() -> str:
    """What monitoring/README.md gives a newcomer to run, so that there is something to
    see."""
    (script,) = re.findall(r"```sh\n(.*?)```", (MONITORING / "README.md").read_text(), re.DOTALL)
    return script


@contextlib.contextmanager
def newcomers_instances(directory: pathlib.Path):
    """Runs that, on free ports, in `directory`; gives the ports by those that it has."""
    script, ports = newcomer_script(), {}
    for word in ("6379", "50051", "50052", "2112", "2113"):
        ports[word] = str(harness.free_port())
        assert re.search(rf"\b{word}\b", script), word
        script = re.sub(rf"\b{word}\b", ports[word], script)
    script = script.replace("build/release/bin", str(harness.BUILD / "bin"))
    script = script.replace("build/limits.yaml", str(directory / "limits.yaml"))
    # A process group of its own, which ends with this process, too.
    text = f"trap 'kill 0' EXIT\ntrap exit TERM\n{script}\nwait\n"
    with (directory / "log").open("w") as log:
        group = harness.start(["setsid", "setpriv", "--pdeathsig", "TERM", "bash", "-c", text], log,
                              harness.clean_environment())
    try:
        yield ports
    finally:
        os.killpg(group.pid, signal.SIGKILL)
        group.wait()
