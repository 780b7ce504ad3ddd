"""Estimates to tables, plots and pages: what a finished run found out, as one HTML file and as markdown."""

from charactery.report.figures import Figure, load_figures
from charactery.report.write import write_report

__all__ = ["Figure", "load_figures", "write_report"]
