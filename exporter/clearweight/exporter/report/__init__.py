"""What compression did, as one self-contained page."""

from clearweight.exporter.report.data import ReportData
from clearweight.exporter.report.page import render_report

__all__ = ["ReportData", "render_report"]
