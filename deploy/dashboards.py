"""Write the Grafana dashboards of the chart from the table beside this file.

Usage: python deploy/dashboards.py (or `make chart`). A test compares the committed files with this, and asks every
query of a Prometheus that scrapes a live service.
"""

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
FOLDER = HERE.parent / "helm" / "files" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
GOOD, BAD, WORSE = "green", "orange", "red"
Json = dict[str, Any]


def read() -> dict[str, Json]:
    """Return the table: dashboards by the name of their file."""
    table: dict[str, Json] = yaml.safe_load((HERE / "dashboards.yaml").read_text(encoding="utf-8"))
    return table


def dashboard(page: Json) -> Json:
    """Return one dashboard as Grafana's JSON model."""
    source = {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": page["uid"],
        "title": page["title"],
        "description": page["text"],
        "tags": ["clearweight"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "annotations": {"list": []},
        "links": [{"title": "clearweight", "type": "dashboards", "tags": ["clearweight"], "keepTime": True}],
        "templating": {"list": [source, *map(_variable, page["variables"])]},
        "panels": _panels(page["rows"]),
    }


def _variable(stated: Json) -> Json:
    return stated | {
        "type": "query",
        "datasource": SOURCE,
        "definition": stated["query"],
        "query": {"query": stated["query"], "refId": stated["name"]},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(rows: list[Json]) -> list[Json]:
    """Lay panels out from left to right, row by row; identities count up, so that links to panels last."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        band = {"type": "row", "title": row["title"], "collapsed": False, "panels": []}
        placed.append({"id": len(placed) + 1, **band, "gridPos": _place(0, y, COLUMNS, 1)})
        x, y, high = 0, y + 1, 0
        for panel in row["panels"]:
            width, height = panel.get("width", 8), panel.get("height", 8)
            if x + width > COLUMNS:
                x, y, high = 0, y + high, 0
            placed.append({"id": len(placed) + 1, **_panel(panel), "gridPos": _place(x, y, width, height)})
            x, high = x + width, max(high, height)
        y += high
    return placed


def _place(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Json) -> Json:
    kind = panel["kind"]
    once = kind in ("table", "bargauge")
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query["expr"],
            "legendFormat": query.get("legend", "__auto"),
            "format": kind if kind in ("table", "heatmap") else "time_series",
            "instant": once,
            "range": not once,
        }
        for index, query in enumerate(panel["queries"])
    ]
    return {
        "type": kind,
        "title": panel["title"],
        "description": panel["text"],
        "datasource": SOURCE,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "targets": targets,
    }


def _defaults(panel: Json) -> Json:
    defaults: Json = {"unit": panel["unit"], "min": 0, "color": {"mode": "palette-classic"}}
    if "most" in panel:
        defaults["max"] = panel["most"]
    if panel["kind"] == "timeseries":
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never", "spanNulls": False}
    if panel["kind"] in ("stat", "bargauge"):
        limits = panel.get("limits", [])
        colours = [GOOD, WORSE] if len(limits) == 1 else [GOOD, BAD, WORSE]
        steps = [{"color": c, "value": v} for c, v in zip(colours, (None, *limits), strict=False)]
        defaults |= {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}
    if "states" in panel:
        bad, good = panel["states"]
        states = {"0": {"text": bad, "color": WORSE}, "1": {"text": good, "color": GOOD}}
        defaults["mappings"] = [{"type": "value", "options": states}]
    return defaults


def _options(panel: Json) -> Json:
    reduced = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    match panel["kind"]:
        case "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "heatmap":
            colours = {"mode": "scheme", "scheme": "Viridis", "steps": 64, "reverse": False}
            return {"calculate": False, "color": colours, "yAxis": {"axisPlacement": "left"}, "cellGap": 1}
        case "table":
            return {"showHeader": True}
        case "bargauge":
            return reduced | {"orientation": "horizontal", "displayMode": "lcd"}
    named = any("legend" in query for query in panel["queries"])
    return reduced | {
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "value_and_name" if named else "auto",
    }


if __name__ == "__main__":
    for name, page in read().items():
        text = json.dumps(dashboard(page), indent=1) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
