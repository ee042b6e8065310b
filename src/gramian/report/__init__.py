"""The report: one HTML file to open in a browser and one JSON file, from plain facts. No torch here."""

from gramian.report.overview import summary_rows
from gramian.report.write import write

__all__ = ["summary_rows", "write"]
