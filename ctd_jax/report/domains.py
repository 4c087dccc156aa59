"""The report of a run over several domains: their numbers side by side, and links to the report of each."""

from pathlib import Path

from ctd_jax import versions
from ctd_jax.report import pages, parts, tables


def write(workdir: str | Path) -> Path:
    """Writes `report.html` from the workdir's `metrics.json`, which has `domains`; returns its path."""
    workdir = Path(workdir)
    metrics = parts.json_of(workdir / "metrics.json")
    return pages.write(
        workdir,
        "domains.html",
        metrics=metrics,
        tables=tables,
        cautions=tables.cautions(metrics),
        versions_line=versions.line(metrics["versions"]),
    )
