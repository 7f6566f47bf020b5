"""The manifests of deploy/kubernetes: each against the schema of its kind, how they refer to
each other, and that the daemon takes what they give it. No cluster is asked."""

import json
import re
import shutil
import signal
import subprocess

import pytest
import yaml

import harness
from harness import ROOT

FOLDER = ROOT / "deploy/kubernetes"
TOOLS = ROOT / "build/tools"
VALIDATE = TOOLS / "venv/bin/kubernetes-validate"
KUSTOMIZE = TOOLS / "bin/kustomize"
OPERATOR = TOOLS / "node_modules/@kubernetes-models/prometheus-operator"
# The oldest release that still has what is used.
RELEASE = "1.31"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = {name: yaml.safe_load((FOLDER / name).read_text()) for name in KUSTOMIZATION["resources"]}
MONITOR = "service-monitor.yaml"
DEPLOYMENT = MANIFESTS["deployment.yaml"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT = {one["name"]: one["value"] for one in CONTAINER["env"]}


def test_each_file_is_of_the_kustomization():
    generated = [file for one in KUSTOMIZATION["configMapGenerator"] for file in one["files"]]
    assert sorted([*MANIFESTS, *generated, "kustomization.yaml"]) == sorted(
        file.name for file in FOLDER.iterdir())


# --- Schemas ---


def validated(text: str, tmp_path) -> subprocess.CompletedProcess:
    file = tmp_path / "manifest.yaml"
    file.write_text(text)
    return subprocess.run([VALIDATE, "--strict", "--kubernetes-version", RELEASE, file],
                          capture_output=True, text=True)


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name != MONITOR])
def test_a_manifest_keeps_its_schema(name, tmp_path):
    text = (FOLDER / name).read_text()
    checked = validated(text, tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # What is checked is all of it: a field that the last line brings is not known.
    checked = validated(f"{text}  unheard: of\n", tmp_path)
    assert checked.returncode != 0 and "unheard" in checked.stdout + checked.stderr


def validated_monitor(monitor: dict) -> subprocess.CompletedProcess:
    script = """
        import {ServiceMonitor} from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor';
        new ServiceMonitor(JSON.parse(process.argv[1])).validate();"""
    return subprocess.run(["node", "--input-type=module", "-e", script, json.dumps(monitor)], cwd=TOOLS,
                          capture_output=True, text=True)


@pytest.mark.skipif(not OPERATOR.exists(), reason="needs npm, for the operator's schemas")
def test_the_service_monitor_keeps_its_schema():
    monitor = MANIFESTS[MONITOR]
    checked = validated_monitor(monitor)
    assert checked.returncode == 0, checked.stderr
    wrong = monitor | {"spec": monitor["spec"] | {"endpoints": [{"port": 2112}]}}
    assert "endpoints" in validated_monitor(wrong).stderr


@pytest.mark.skipif(not KUSTOMIZE.exists(), reason="needs Go, for kustomize")
def test_kustomize_builds_it():
    built = list(yaml.safe_load_all(harness.output_of(KUSTOMIZE, "build", FOLDER)))
    assert sorted(one["kind"] for one in built) == sorted(
        ["ConfigMap", *(one["kind"] for one in MANIFESTS.values())])
    (limits,) = (one for one in built if one["kind"] == "ConfigMap")
    # The name that the pods mount.
    assert limits["metadata"]["name"] == POD["volumes"][0]["configMap"]["name"]
    assert limits["data"] == {"limits.yaml": (FOLDER / "limits.yaml").read_text()}
    (deployment,) = (one for one in built if one["kind"] == "Deployment")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    version = re.search(r"VERSION (\d+\.\d+\.\d+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert image == f"ratelimiter:{version}"


# --- How they fit together ---


def test_all_are_of_the_same_pods():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    spec = {name: manifest["spec"] for name, manifest in MANIFESTS.items()}
    selectors = [spec["deployment.yaml"]["selector"]["matchLabels"], spec["service.yaml"]["selector"],
                 spec["disruption-budget.yaml"]["selector"]["matchLabels"],
                 spec["network-policy.yaml"]["podSelector"]["matchLabels"],
                 *(one["labelSelector"]["matchLabels"] for one in POD["topologySpreadConstraints"])]
    assert selectors == [labels] * len(selectors)
    assert spec[MONITOR]["selector"]["matchLabels"] == MANIFESTS["service.yaml"]["metadata"]["labels"]
    target = spec["autoscaler.yaml"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", DEPLOYMENT["metadata"]["name"])
    ports = {port["name"] for port in CONTAINER["ports"]}
    named = [port["targetPort"] for port in spec["service.yaml"]["ports"]]
    named += [port["port"] for one in spec["network-policy.yaml"]["ingress"] for port in one["ports"]]
    named += [endpoint["port"] for endpoint in spec[MONITOR]["endpoints"]]
    assert set(named) == ports
    assert MANIFESTS["service.yaml"]["metadata"]["labels"][spec[MONITOR]["jobLabel"]] == "ratelimiter"


def test_a_pod_may_do_nothing():
    assert POD["securityContext"]["runAsNonRoot"] and POD["securityContext"]["runAsUser"] > 0
    assert not POD["automountServiceAccountToken"]
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert all(mount["readOnly"] for mount in CONTAINER["volumeMounts"])


def seconds(duration: str) -> int:
    return int(re.fullmatch(r"(\d+)s", duration)[1])


def test_there_is_time_to_drain():
    after_drain = 5  # For calls in flight.
    assert POD["terminationGracePeriodSeconds"] > seconds(ENVIRONMENT["DRAIN_TIME"]) + after_drain


# --- That the daemon takes it ---


def test_the_daemon_serves_with_these_settings(tmp_path):
    limits = shutil.copy(FOLDER / "limits.yaml", tmp_path)
    assert CONTAINER["volumeMounts"][0]["mountPath"] + "/limits.yaml" == ENVIRONMENT["LIMITS_FILE"]
    elsewhere = {"LIMITS_FILE": limits, "PORT": 0, "METRICS_PORT": 0}
    with harness.redis_server() as redis:
        settings = ENVIRONMENT | elsewhere | {"REDIS_URL": redis.url, "DRAIN_TIME": "0"}
        with harness.daemon(**settings) as daemon:
            assert daemon.allow("u")["limit_name"] == "default"
            health = {probe: CONTAINER[f"{probe}Probe"]["grpc"].get("service", "")
                      for probe in ("readiness", "liveness")}
            assert daemon.health(health["readiness"]) == daemon.health(health["liveness"]) == "SERVING"
            redis.kill()
            harness.wait_until(lambda: daemon.health(health["readiness"]) == "NOT_SERVING")
            assert daemon.health(health["liveness"]) == "SERVING"


def test_the_daemon_takes_its_drain_time():
    with harness.daemon(STORE="memory", DRAIN_TIME=ENVIRONMENT["DRAIN_TIME"]) as daemon:
        daemon.process.send_signal(signal.SIGTERM)
        told = f"draining for {ENVIRONMENT['DRAIN_TIME']}, "
        daemon.await_log(told)
        daemon.process.kill()


def test_the_autoscaler_alone_says_how_many_there_are():
    assert "replicas" not in DEPLOYMENT["spec"]
    assert MANIFESTS["autoscaler.yaml"]["spec"]["minReplicas"] >= 2


def test_probes_ask_where_it_listens():
    port = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    default = harness.settings_in_help()
    assert default["PORT"].default == str(port["grpc"])
    assert default["METRICS_PORT"].default == str(port["metrics"])
    assert {CONTAINER[f"{probe}Probe"]["grpc"]["port"] for probe in ("readiness", "liveness")} == {port["grpc"]}
