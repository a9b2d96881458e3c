"""The page of a study whose units of inference are networks: made from its ``study.json`` and the runs' summaries."""

from __future__ import annotations

from perturbrl.report.study.build import build_study

__all__ = ["build_study"]
