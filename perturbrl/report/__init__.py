"""Tables, figures and one page from run directories. Reads files only."""

from __future__ import annotations

from perturbrl.report.build import Report, build_report

__all__ = ["Report", "build_report"]
