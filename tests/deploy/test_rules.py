import re
import subprocess

import pytest
import yaml

from tests.deploy.alert_cases import CASES
from tests.deploy.chart import CHART
from tests.deploy.presence import need

PATH = CHART / "files" / "rules.yaml"
RULES = yaml.safe_load(PATH.read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}


def promtool(*arguments):
    need("promtool")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_every_alert_has_a_case():
    assert {case.alert for case in CASES} == set(ALERTS)


def test_promtool_accepts_the_rules():
    found = promtool("check", "rules", str(PATH))

    assert found.returncode == 0, found.stdout + found.stderr
    assert "duplicate" not in found.stdout


def filled(text, case):
    """Render a template of an annotation by hand: only labels and one formatted value occur."""
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: case.labels[found.group(1)], text)
    return re.sub(r"{{ \$value \| \w+ }}", case.value, text)


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """Run all cases in one go, each in a group of its own; returns what promtool said."""
    groups = []
    for case in CASES:
        alert = ALERTS[case.alert]
        expected = {
            "exp_labels": {**alert["labels"], **case.labels},
            "exp_annotations": {key: filled(text, case) for key, text in alert["annotations"].items()},
        }
        for series, alerts in ((case.fires, [expected]), (case.quiet, [])):
            groups.append({
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}],
            })  # fmt: skip
    folder = tmp_path_factory.mktemp("rules")
    whole = {"rule_files": [str(PATH)], "evaluation_interval": "1m", "tests": groups}
    (folder / "test.yaml").write_text(yaml.safe_dump(whole))
    return promtool("test", "rules", str(folder / "test.yaml"))


def test_every_alert_fires_when_it_should_and_not_otherwise(tested):
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_check_can_fail(tmp_path):
    """A case whose quiet series are those that fire is refused, so silence above means something."""
    case = CASES[0]
    wrong = {
        "rule_files": [str(PATH)],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.fires.items()],
            "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": []}],
        }],
    }  # fmt: skip
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(wrong))

    assert promtool("test", "rules", str(tmp_path / "test.yaml")).returncode != 0
