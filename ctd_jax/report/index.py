"""The report of a run over several domains: their numbers side by side, and links to the report of each."""

import json
from pathlib import Path

import jinja2

from ctd_jax import files, versions
from ctd_jax.report import tables

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Landmark report: {{ name }}</title>
<style>
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1.5rem 1.25rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .5rem; border-bottom: 1px solid #8888; vertical-align: baseline; }
td.n { text-align: right; white-space: nowrap; }
</style>
</head>
<body>
<h1>Landmark report: {{ name }}</h1>
{% if cautions %}
<h2>What to know first</h2>
<ul>
{% for text in cautions %}
<li>{% if loop.first %}<strong>{{ text }}</strong>{% else %}{{ text }}{% endif %}</li>
{% endfor %}
</ul>
{% endif %}
<p>One network of {{ "{:,}".format(metrics.n_params) }} parameters for {{ metrics.domains | length }} domains,
evaluated on &ldquo;{{ metrics.split }}&rdquo;. Numbers of different domains are never pooled: their units and
difficulties differ.</p>
{% for domain, one in metrics.domains.items() %}
<h2><a href="{{ domain | urlencode }}/report.html">{{ domain }}</a></h2>
<p>{{ one.n_images }} pictures, {{ one.n_points }} points of {{ one.per_landmark | length }} landmarks</p>
<table>
<thead><tr><th>Metric</th><th>Value</th><th>95&nbsp;% interval</th><th>Mean shape</th></tr></thead>
<tbody>
{% for key in tables.keys(one) %}
{% set row = tables.quantity(key, one) %}
<tr><th scope="row">{{ row.label }}</th><td class="n">{{ row.text(one[key]) }}</td>
<td class="n">{{ row.range(one.ci95.get(key)) or "&ndash;" | safe }}</td>
<td class="n">{{ row.text(one.mean_shape[key]) if key in one.mean_shape else "&ndash;" | safe }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
<p>Mean shape: the mean of the training labels, placed in every picture without looking at it. A network that is no
better has learned nothing of the pictures.</p>
<p>Made with {{ versions_line }}.</p>
</body>
</html>
"""


def write_index(workdir: str | Path) -> Path:
    """Writes `report.html` from the workdir's `metrics.json`, which has `domains`; returns its path."""
    workdir = Path(workdir)
    metrics = json.loads((workdir / "metrics.json").read_text(encoding="utf-8"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(PAGE).render(
        name=workdir.resolve().name,
        metrics=metrics,
        tables=tables,
        cautions=tables.cautions(metrics),
        versions_line=versions.line(metrics["versions"]),
    )
    path = workdir / "report.html"
    files.write_text(path, page)
    return path
