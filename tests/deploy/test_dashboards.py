import json
import re

import pytest
import yaml

from deploy.dashboards import FOLDER, dashboard, read
from tests.deploy.chart import CHART, ROOT

PAGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
RULES = yaml.safe_load((CHART / "files" / "rules.yaml").read_text(encoding="utf-8"))
UNITS = {"none", "short", "percentunit", "reqps", "rowsps", "s", "bytes", "sci"}
"""Units that Grafana knows, of those that fit base units."""


@pytest.fixture(params=PAGES)
def page(request):
    return PAGES[request.param]


def panels(page):
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def test_the_committed_files_are_what_the_table_says():
    assert {name: dashboard(stated) for name, stated in read().items()} == PAGES, "run make chart"
    assert set(PAGES) == {"service", "fleet"}


def test_no_two_panels_lie_on_each_other_and_none_leaves_the_grid(page):
    taken = set()
    for panel in page["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_every_row_of_the_grid_is_full(page):
    """Gaps in a grid look like panels that failed to load."""
    for top in {panel["gridPos"]["y"] for panel in page["panels"]}:
        assert sum(p["gridPos"]["w"] for p in page["panels"] if p["gridPos"]["y"] == top) == 24


def test_every_panel_says_what_it_shows_in_which_unit(page):
    titles = [panel["title"] for panel in panels(page)]
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])
    assert len(set(titles)) == len(titles)
    for panel in panels(page):
        assert len(panel["description"]) > 10
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            if panel["type"] == "timeseries" and len(panel["targets"]) > 1:
                assert target["legendFormat"] != "__auto", panel["title"]
            grouped = re.search(r"by \(([^)]*)\)", target["expr"])
            if labels and grouped:
                asked = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
                assert labels <= asked, (panel["title"], labels, asked)


def test_variables_that_are_used_exist(page):
    stated = {variable["name"] for variable in page["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(page))) - {"__rate_interval", "__all"}

    assert used <= stated
    assert stated - {"datasource"} <= used


def test_every_alert_is_whole_and_has_its_runbook():
    page = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    anchors = [heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", page, re.MULTILINE)]
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]

    assert len(alerts) >= 10
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket"), alert["alert"]
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        target, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (ROOT / target).is_file()
        assert anchor in anchors
        section = page.split(f"## {alert['alert']}\n")[1].split("\n## ")[0]
        severity = alert["labels"]["severity"]
        assert f"({severity})" in section, alert["alert"]
    assert len(anchors) == len(alerts)


def test_runbooks_name_panels_and_settings_that_exist():
    from clearweight.service.settings import Settings

    page = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    titles = {panel["title"] for stated in PAGES.values() for panel in stated["panels"]}
    named = set(re.findall(r"\*([A-Z][^*]+)\*", page))
    assert named
    for name in named:
        assert any(title.startswith(name) for title in titles), name
    for name in re.findall(r"`((?:max|predict|explain|shadow|low|false|anonymous)_\w+)`", page):
        assert name in Settings.model_fields, name


def test_recorded_series_are_named_level_metric_operation():
    for group in RULES["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                assert re.fullmatch(r"[a-z_]+:clearweight_[a-z_]+:[a-z0-9_]+", rule["record"])
