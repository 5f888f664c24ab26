"""A trace as one page for the browser: `Trace.report(path)`."""

from __future__ import annotations

from recurra.insight.report.data import report_data
from recurra.insight.report.writing import write_report

__all__ = ["report_data", "write_report"]
