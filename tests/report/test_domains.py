"""The page of a run over several domains: their numbers side by side."""

import json

from report_files import Page, make_run

from ctd_jax import report


def test_every_domain_has_its_numbers_and_a_link(tmp_path):
    each = {}
    for name, keys in {"hips & knees": {}, "px": {"mm": False, "normalizer": None}}.items():
        (tmp_path / name).mkdir()
        each[name] = make_run(tmp_path / name, **keys) | {"mean_shape": {"me_px": 12.345}, "cautions": [f"of {name}"]}
    content = {"split": "test", "n_params": 1234567, "versions": {"jax": "0.0"}, "domains": each}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    path = report.domains.write(tmp_path)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text("utf-8"))
    assert page.addresses == ["hips%20%26%20knees/report.html", "px/report.html"]
    assert "hips & knees: of hips & knees px: of px" in page.text and "1,234,567 parameters for 2 domains" in page.text
    for name, one in each.items():
        low, high = one["ci95"]["me_px"]
        assert f"Mean error (ME) {one['me_px']:.2f} px {low:.2f} to {high:.2f} 12.35 px" in page.text, name
    assert page.text.count("Normalised mean error") == 1 and "Made with jax 0.0" in page.text
