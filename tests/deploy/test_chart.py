import json

import pytest
import yaml

from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.engine import Engine
from clearweight.service.rest import create_app
from clearweight.service.settings import Settings
from deploy.settings_schema import MANAGED, schema
from tests.deploy.chart import CHART, EVERYTHING, ROOT, SWITCHES, one, render
from tests.deploy.presence import need

VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _tools():
    need("helm_python", "kubernetes_validate")


def server(manifests):
    deployment = one(manifests, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return deployment["spec"]["template"], container


def test_helm_lint_finds_nothing():
    import helm_python

    told = helm_python.lint(str(CHART))

    assert told["total_charts_linted"] == 1
    assert told["messages"] == []
    assert told["errors"] == []


@pytest.mark.parametrize("values", SWITCHES.values(), ids=SWITCHES)
def test_every_manifest_satisfies_its_schema(values):
    import kubernetes_validate

    manifests = render(values)
    assert {"Deployment", "Service", "ConfigMap", "Pod"} <= {manifest["kind"] for manifest in manifests}
    for manifest in manifests:
        assert "namespace" not in manifest["metadata"]
        assert len(manifest["metadata"]["name"]) <= 63
        if not manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_image_volumes_and_probes_of_the_oldest_kubernetes_it_names_are_known():
    import kubernetes_validate

    for manifest in render():
        kubernetes_validate.validate(manifest, "1.27", strict=True)


WRONG = {
    "a misspelt value": {"replicas": 3},
    "a misspelt setting": {"settings": {"shdow": 0.1}},
    "a setting out of its range": {"settings": {"shadow": 2}},
    "a setting of another type": {"settings": {"explain_queue": "many"}},
    "a setting that the chart manages": {"settings": {"http_port": 9000}},
    "a secret among the settings": {"settings": {"tokens": "t"}},
    "an unknown source": {"model": {"source": "s3"}},
    "the tag latest": {"image": {"tag": "latest"}},
    "half a digest": {"image": {"digest": "sha256:12"}},
    "an unknown metric": {"autoscaling": {"metric": "memory"}},
    "a port too high": {"service": {"httpPort": 65536}},
    "an interval without a unit": {"monitoring": {"serviceMonitor": {"interval": "15"}}},
    "an upper-case name": {"fullnameOverride": "Clearweight"},
    "text for a switch": {"networkPolicy": {"enabled": "yes"}},
}


@pytest.mark.parametrize("values", WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused(values):
    import helm_python

    with pytest.raises(helm_python.HelmValuesError):
        render(values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model": {"source": "image"}}, "model.image.reference"),
        ({"model": {"source": "initContainer"}}, "model.initContainer.image"),
        ({"model": {"persistentVolumeClaim": {"claimName": ""}}}, "model.persistentVolumeClaim.claimName"),
    ],
)
def test_a_source_without_its_place_is_refused_by_name(values, named):
    import helm_python

    with pytest.raises(helm_python.HelmRenderError, match=named):
        render(values)


def test_the_schema_knows_every_value_and_every_setting():
    committed = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    assert committed == schema(), "run make chart"
    assert set(committed["properties"]) == {*VALUES, "global"}
    assert set(Settings.model_fields) >= MANAGED


def test_the_readme_names_every_value():
    text = (CHART / "README.md").read_text(encoding="utf-8")

    assert [name for name in VALUES if f"`{name}" not in text] == []


def test_settings_arrive_as_the_service_reads_them(monkeypatch, tmp_path):
    for manifest in render(EVERYTHING):
        if manifest["kind"] == "ConfigMap" and "CLEARWEIGHT_HOST" in manifest["data"]:
            environment = manifest["data"]
    for name, value in environment.items():
        assert name.removeprefix("CLEARWEIGHT_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)

    settings = Settings(models=tmp_path)

    assert (settings.shadow, settings.max_body_bytes, settings.low_fidelity) == (0.05, 67108864, "annotate")
    assert (settings.drain_seconds, settings.grace_seconds) == (5, 30)
    assert settings.token_file is not None


def test_probes_ask_for_paths_that_exist(models):
    _, container = server(render())
    probes = [container[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    engine = Engine(models)
    plane = Dataplane(engine)
    paths = {route.path for route in create_app(plane).routes}
    plane.close()

    assert {probe["path"] for probe in probes} == {"/v2/health/ready", "/v2/health/live"} <= paths
    assert {probe["port"] for probe in probes} == {"http"} <= {port["name"] for port in container["ports"]}


def test_ports_agree_from_the_setting_to_the_service():
    manifests = render({"service": {"httpPort": 80}})
    _, container = server(manifests)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    settings = next(
        m["data"] for m in manifests if m["kind"] == "ConfigMap" and "CLEARWEIGHT_HOST" in m["data"]
    )

    assert settings["CLEARWEIGHT_HTTP_PORT"] == str(ports["http"])
    assert settings["CLEARWEIGHT_GRPC_PORT"] == str(ports["grpc"])
    assert {port["targetPort"] for port in one(manifests, "Service")["spec"]["ports"]} == set(ports)
    assert "http://demo-clearweight:80" in one(manifests, "Pod")["spec"]["containers"][0]["command"]
    exposed = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"EXPOSE {ports['http']} {ports['grpc']}\n" in exposed


@pytest.mark.parametrize("values", SWITCHES.values(), ids=SWITCHES)
def test_every_pod_satisfies_the_restricted_standard(values):
    manifests = render(values)
    pods = [one(manifests, "Deployment")["spec"]["template"]["spec"], one(manifests, "Pod")["spec"]]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert not container["image"].endswith(":latest")
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["volumes"]}


def test_new_settings_are_new_pods():
    first, second = (
        server(render({"settings": {"shadow": share}}))[0]["metadata"]["annotations"] for share in (0.1, 0.2)
    )

    assert first != second
    assert (
        first
        == server(render({"settings": {"shadow": 0.1}, "replicaCount": 2}))[0]["metadata"]["annotations"]
    )


def test_selectors_find_the_server_and_not_the_test_pod():
    manifests = render(EVERYTHING)
    template, _ = server(manifests)
    tester = one(manifests, "Pod")["metadata"]["labels"]
    selectors = [
        one(manifests, "Service")["spec"]["selector"],
        one(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= template["metadata"]["labels"].items()
        assert not selector.items() <= tester.items()
    (rule,) = one(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert any(
        peer["podSelector"]["matchLabels"].items() <= tester.items()
        for peer in rule["from"]
        if "podSelector" in peer
    )


def test_a_pod_may_end_in_its_own_time():
    template, _ = server(render({"shutdown": {"drainSeconds": 20, "graceSeconds": 60}}))

    assert template["spec"]["terminationGracePeriodSeconds"] > 20 + 60


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({}, False),
        ({"replicaCount": 2}, True),
        ({"replicaCount": 2, "podDisruptionBudget": {"enabled": False}}, False),
        ({"autoscaling": {"enabled": True}}, True),
        ({"autoscaling": {"enabled": True, "minReplicas": 1}, "replicaCount": 2}, False),
    ],
)
def test_a_disruption_budget_needs_a_second_pod(values, there):
    assert ("PodDisruptionBudget" in {manifest["kind"] for manifest in render(values)}) is there


@pytest.mark.parametrize("metric", ["cpu", "queueDepth"])
def test_autoscaling_decides_the_number_of_pods_alone(metric):
    manifests = render({"autoscaling": {"enabled": True, "metric": metric}})

    assert "replicas" not in one(manifests, "Deployment")["spec"]
    (read,) = one(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert (read["type"] == "Pods") is (metric == "queueDepth")
    if metric == "queueDepth":
        assert read["pods"]["metric"]["name"] == "clearweight_queue_depth"


def test_with_tokens_the_test_pod_has_one():
    manifests = render({"auth": {"existingSecret": "tokens"}})
    template, container = server(manifests)
    settings = next(
        m["data"] for m in manifests if m["kind"] == "ConfigMap" and "CLEARWEIGHT_HOST" in m["data"]
    )

    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "tokens"]
    assert settings["CLEARWEIGHT_TOKEN_FILE"] == f"{mount['mountPath']}/tokens"
    assert {"name": "tokens", "secret": {"secretName": "tokens", "defaultMode": 0o440}} in template["spec"][
        "volumes"
    ]
    (variable,) = one(manifests, "Pod")["spec"]["containers"][0]["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "tokens", "key": "tokens"}


def test_with_a_certificate_everything_speaks_tls():
    manifests = render(EVERYTHING)
    _, container = server(manifests)
    settings = next(
        m["data"] for m in manifests if m["kind"] == "ConfigMap" and "CLEARWEIGHT_HOST" in m["data"]
    )
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
    assert settings["CLEARWEIGHT_TLS_CERT"] == f"{mount['mountPath']}/tls.crt"
    assert settings["CLEARWEIGHT_TLS_KEY"] == f"{mount['mountPath']}/tls.key"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    (endpoint,) = one(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["serverName"] == one(manifests, "Service")["metadata"]["name"]
    assert endpoint["authorization"]["credentials"] == {"name": "tokens", "key": "tokens"}
    (tester,) = one(manifests, "Pod")["spec"]["containers"]
    assert tester["command"][-1].startswith("https://")
    assert {"name": "CLEARWEIGHT_CA", "value": "/tls/ca.crt"} in tester["env"]
    assert {port.get("appProtocol") for port in one(manifests, "Service")["spec"]["ports"]} == {"https", None}
    plain = server(render())[1]
    assert plain["readinessProbe"]["httpGet"]["scheme"] == "HTTP"


def test_dashboards_arrive_byte_for_byte():
    files = {
        path.name: path.read_text(encoding="utf-8")
        for path in (CHART / "files" / "dashboards").glob("*.json")
    }
    maps = [
        manifest
        for manifest in render({"monitoring": {"dashboards": {"enabled": True}}})
        if manifest["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]

    arrived = {name: text for manifest in maps for name, text in manifest["data"].items()}
    assert len(files) == len(maps) >= 2
    assert arrived == {f"clearweight-{name}": text for name, text in files.items()}


def test_rules_arrive_whole_and_their_links_lead_where_the_operator_says():
    def rules(**monitoring):
        values = {"monitoring": {"prometheusRule": {"enabled": True, **monitoring}}}
        return one(render(values), "PrometheusRule")["spec"]

    stated = yaml.safe_load((CHART / "files" / "rules.yaml").read_text(encoding="utf-8"))
    assert rules() == stated
    led = json.dumps(rules(runbookBase="https://docs.example/main/"))
    assert led == json.dumps(stated).replace("docs/runbooks.md", "https://docs.example/main/docs/runbooks.md")
    assert led != json.dumps(stated)


def test_notes_say_how_to_test_and_warn_of_a_policy_that_blocks_the_download():
    import helm_python

    def notes(values):
        with helm_python.Chart.load(str(CHART)) as chart:
            return chart.render(values, name="demo", namespace="prod")["clearweight/templates/NOTES.txt"]

    fetched = SWITCHES["init container"] | {"networkPolicy": {"enabled": True}}
    assert "helm test demo --namespace prod" in notes({})
    assert "WARNING" not in notes({})
    assert "WARNING" in notes(fetched)


def test_the_package_holds_what_the_chart_needs(tmp_path):
    import tarfile

    import helm_python

    with helm_python.Chart.load(str(CHART)) as chart:
        chart.save(str(tmp_path))
    (package,) = tmp_path.glob("clearweight-*.tgz")
    with tarfile.open(package) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}

    assert {"README.md", "LICENSE", "values.schema.json", "files/probe.py", "files/rules.yaml"} <= names
    assert (CHART / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.deploy
def test_the_operators_own_types_accept_the_monitor_and_the_rules(tmp_path):
    """ServiceMonitor and PrometheusRule are not Kubernetes' own; their schemas come with an npm package."""
    import subprocess

    need("npm")
    kinds = ("ServiceMonitor", "PrometheusRule")
    manifests = [manifest for manifest in render(EVERYTHING) if manifest["kind"] in kinds]
    assert {manifest["kind"] for manifest in manifests} == set(kinds)
    (tmp_path / "manifests.json").write_text(json.dumps(manifests))
    base = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
    imports = "".join(f"import {{{kind}}} from '{base}/{kind}'\n" for kind in kinds)
    (tmp_path / "check.mjs").write_text(
        f"{imports}import fs from 'fs'\nconst kinds = {{{', '.join(kinds)}}}\n"
        "for (const one of JSON.parse(fs.readFileSync('manifests.json'))) new kinds[one.kind](one).validate()\n"
    )

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    installed = run("npm", "install", "--no-audit", "--no-fund", "@kubernetes-models/prometheus-operator@6")
    if installed.returncode != 0:
        pytest.skip("npm cannot fetch @kubernetes-models/prometheus-operator here")
    found = run("node", "check.mjs")
    assert found.returncode == 0, found.stderr
    manifests[0]["spec"].pop("endpoints", None)
    manifests[0]["spec"].pop("groups", None)
    (tmp_path / "manifests.json").write_text(
        json.dumps([{**manifests[0], "spec": {"endpoints": 5, "groups": 5}}])
    )
    assert run("node", "check.mjs").returncode != 0
