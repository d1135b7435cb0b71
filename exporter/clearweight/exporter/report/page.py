"""The report: one HTML file that needs nothing else, the same bytes for the same data."""

from pathlib import Path

import jinja2

from clearweight.exporter.outcome import pareto_front
from clearweight.exporter.report import quantity, section, self_check, unit
from clearweight.exporter.report.chart import histogram, stage_bars
from clearweight.exporter.report.data import ReportData

# The score on which the drift alarm runs.
ALARM_SCORE = "pooled_cosine"
_FOLDED_ABOVE = 40


def render_report(data: ReportData) -> str:
    """Write ``report.html``: self-contained, without scripts, dates, host names or paths.

    The page shows the manifest and the arrays it is given and measures nothing. Names and labels come from
    the user and are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        bytes=quantity.in_bytes,
        count=quantity.grouped,
        decimal=quantity.decimal,
        percent=quantity.percent,
        shape=quantity.shape,
        times=quantity.times,
    )
    manifest = data.manifest
    return environment.get_template("report.html.j2").render(
        manifest=manifest,
        figures=section.key_figures(data),
        verdict=section.verdict(manifest.fidelity),
        bars=stage_bars(manifest.ledger),
        largest=max((row.bytes for row in manifest.ledger.rows), default=1) or 1,
        folded=len(manifest.ledger.rows) > _FOLDED_ABOVE,
        likenesses=section.likenesses(data),
        comparison=data.comparison,
        front=pareto_front(data.tried),
        tried=len(data.tried),
        examples=section.examples(data),
        calibrated=section.calibrated(manifest.fidelity),
        faithfulness=section.faithfulness(data),
        units=unit.units(data),
        checked=self_check.checked_rows(data),
        checked_images=self_check.checked_images(data),
        randomized=self_check.randomized(data),
        strips=data.maps_reference.ndim < 4,
        alarm_score=ALARM_SCORE,
        null=None if manifest.drift is None else manifest.drift.scores.get(ALARM_SCORE),
        histogram=None if data.null_scores is None else histogram(data.null_scores),
    )
