"""One mechanism for all pages."""

import jinja2
import pytest
from report_files import Page

from ctd_jax.report import pages, tables

METRICS = {"n_params": 5, "split": "test", "domains": {}}


def test_a_page_is_a_whole_document_with_the_style(tmp_path):
    run = tmp_path / "<a> & b"
    run.mkdir()
    path = pages.write(run, "domains.html", metrics=METRICS, tables=tables, cautions=["x < y"], versions_line="1")
    source = path.read_text("utf-8")
    assert path == run / "report.html" and source.startswith("<!DOCTYPE html>")
    assert (pages.FOLDER / "style.css").read_text("utf-8") in source
    page = Page(source)
    assert "Landmark report: <a> & b" in page.text and "x < y" in page.text and "a" not in page.tags


def test_nothing_is_written_where_the_page_lacks_something(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="cautions"):
        pages.write(tmp_path, "domains.html", metrics=METRICS, tables=tables, versions_line="")
    assert list(tmp_path.iterdir()) == []


def test_every_template_extends_or_is_part_of_the_base():
    parts = {"base.html", "cautions.html", "caution_items.html", "pairs.html"}
    for path in pages.FOLDER.glob("*.html"):
        assert (path.name in parts) != path.read_text("utf-8").startswith("{% extends "), path.name
