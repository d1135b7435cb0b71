import re
from pathlib import Path

import pytest
import yaml

from clearweight.service.settings import Settings
from deploy.dashboards import FOLDER
from tests.deploy.chart import CHART, ROOT

EDGE, CENTRE, KSERVE = (ROOT / "deploy" / part for part in ("edge", "centre", "kserve"))
KNOWN = {
    "image", "command", "environment", "volumes", "ports", "read_only", "tmpfs", "cap_drop", "security_opt",
    "mem_limit", "pids_limit", "stop_grace_period", "restart",
}  # fmt: skip
"""Keys of a service in the Compose specification, of those that are used."""


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


FILES = {folder.name: load(folder / "docker-compose.yaml") for folder in (EDGE, CENTRE)}


def services():
    return [
        pytest.param(FILES[part], part, name, id=f"{part}-{name}")
        for part in FILES
        for name in FILES[part]["services"]
    ]


@pytest.mark.parametrize(("whole", "part", "name"), services())
def test_every_service_is_locked_down_and_pinned(whole, part, name):
    service = whole["services"][name]

    assert set(service) <= KNOWN
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":v?\d+\.\d+\.\d+}?$", service["image"]), service["image"]
    assert service.get("read_only") or name == "grafana"  # which writes plug-ins beside its database


@pytest.mark.parametrize(("whole", "part", "name"), services())
def test_every_mount_exists_and_every_volume_is_declared(whole, part, name):
    mounted = []
    for volume in whole["services"][name]["volumes"]:
        if isinstance(volume, dict):
            assert volume["read_only"] is True
            mounted.append(volume["target"])
            continue
        source, target, *mode = volume.split(":")
        mounted.append(target)
        if source.startswith("."):
            assert (ROOT / "deploy" / part / source).exists(), source
            assert mode == ["ro"]
        else:
            assert source in whole["volumes"]
    command = " ".join(whole["services"][name].get("command", []))
    for path in re.findall(r"=(/[\w./-]+)", command):
        assert any(path == target or path.startswith(f"{target}/") for target in mounted), path


@pytest.mark.parametrize("part", FILES)
def test_the_first_lines_show_a_command_with_every_variable_that_must_be_given(part):
    text = (ROOT / "deploy" / part / "docker-compose.yaml").read_text(encoding="utf-8")
    shown = next(line for line in text.splitlines() if "docker compose up" in line)

    for name in re.findall(r"\${(\w+):\?", text):
        assert f"{name}=" in shown


def test_settings_in_the_compose_file_and_for_kserve_are_settings_of_the_service(monkeypatch, tmp_path):
    runtime = load(KSERVE / "serving-runtime.yaml")["spec"]["containers"][0]
    given = [
        FILES["edge"]["services"]["clearweight"]["environment"],
        {entry["name"]: entry["value"] for entry in runtime["env"]},
    ]
    for environment in given:
        for name, value in environment.items():
            assert name.removeprefix("CLEARWEIGHT_").lower() in Settings.model_fields
            monkeypatch.setenv(name, value)
        Settings(models=tmp_path)


def test_ports_and_images_agree_with_the_dockerfile_and_the_chart():
    edge = FILES["edge"]["services"]["clearweight"]
    exposed = re.search(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert exposed
    assert [port.rsplit(":", 1)[1] for port in edge["ports"]] == exposed.group(1).split()
    assert all(port.startswith("127.0.0.1:") for port in edge["ports"])
    chart = load(CHART / "Chart.yaml")
    image = f"{load(CHART / 'values.yaml')['image']['repository']}:{chart['appVersion']}"
    assert image in edge["image"]
    assert load(KSERVE / "serving-runtime.yaml")["spec"]["containers"][0]["image"] == image


def test_the_agent_scrapes_the_service_and_the_centre_listens_where_agents_write():
    agent = load(EDGE / "agent.yaml")
    (scraped,) = agent["scrape_configs"][0]["static_configs"][0]["targets"]
    host, _, port = scraped.partition(":")
    assert FILES["edge"]["services"][host]["ports"][0].endswith(f":{port}")
    (written,) = [entry["url"] for entry in agent["remote_write"]]
    assert re.fullmatch(r"http://centre\.example:9090/api/v1/write", written)
    assert "--web.enable-remote-write-receiver" in FILES["centre"]["services"]["prometheus"]["command"]
    assert "9090:9090" in FILES["centre"]["services"]["prometheus"]["ports"]
    assert agent["global"]["external_labels"] == {"device": "${DEVICE}"}


def test_the_centre_judges_by_the_charts_rules_and_shows_its_dashboards():
    prometheus = load(CENTRE / "prometheus.yaml")
    services_ = FILES["centre"]["services"]
    for rules in prometheus["rule_files"]:
        assert any(volume.endswith(f"/{rules}:ro") for volume in services_["prometheus"]["volumes"])
    (target,) = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert target.partition(":")[0] in services_
    (provider,) = load(CENTRE / "grafana" / "dashboards.yaml")["providers"]
    (shown,) = [v for v in services_["grafana"]["volumes"] if v.split(":")[1] == provider["options"]["path"]]
    assert (CENTRE / shown.split(":")[0]).resolve() == FOLDER
    home = Path(services_["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (FOLDER / home.name).is_file()
    assert str(home.parent) == provider["options"]["path"]
    (source,) = load(CENTRE / "grafana" / "datasources.yaml")["datasources"]
    assert source["url"] == f"http://prometheus:{9090}"


def test_alerts_of_either_severity_have_a_receiver():
    settings = load(CENTRE / "alertmanager.yaml")
    receivers = {receiver["name"] for receiver in settings["receivers"]}

    assert receivers == {"page", "ticket"}
    assert settings["route"]["receiver"] == "ticket"
    assert [(r["receiver"], r["matchers"]) for r in settings["route"]["routes"]] == [
        ("page", ['severity = "page"'])
    ]
    rules = (CHART / "files" / "rules.yaml").read_text(encoding="utf-8")
    for rule in settings["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, value = re.fullmatch(r'(\w+) !?= "(\w*)"', matcher).groups()
            assert label in ("alertname", "device")
            assert label == "device" or f"alert: {value}\n" in rules


def test_prometheus_and_alertmanager_accept_their_files(tmp_path):
    import shutil
    import subprocess

    from tests.deploy.presence import need

    need("promtool", "amtool")
    for path in (CENTRE / "prometheus.yaml", CHART / "files" / "rules.yaml", EDGE / "agent.yaml"):
        shutil.copy(path, tmp_path)
    for command in (
        ("promtool", "check", "config", "prometheus.yaml"),
        ("promtool", "check", "config", "--agent", "agent.yaml"),
        ("amtool", "check-config", str(CENTRE / "alertmanager.yaml")),
    ):
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


def test_kserves_runtime_is_a_pod_and_serves_what_the_inference_service_asks():
    import kubernetes_validate

    runtime, service = load(KSERVE / "serving-runtime.yaml"), load(KSERVE / "inference-service.yaml")
    pod = {key: runtime["spec"][key] for key in ("containers", "volumes")}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, "1.34", strict=True
    )
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    (form,) = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"] == {"name": form["name"], "version": form["version"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    ports = {port["containerPort"] for port in container["ports"]}
    assert container["readinessProbe"]["httpGet"]["port"] in ports
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["CLEARWEIGHT_HTTP_PORT"] == str(container["livenessProbe"]["httpGet"]["port"])
