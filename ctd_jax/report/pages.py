"""The report's pages: every page is a template of this folder."""

from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from ctd_jax import files

FOLDER = Path(__file__).parent


def write(workdir: Path, template: str, file: str = "report.html", *, name: str = "", **content: Any) -> Path:
    """Writes a page in `workdir`; returns its path.

    Args:
      workdir: the folder.
      template: file of this folder; it extends `base.html`.
      file: the page's file.
      name: what the page is about; "": it is called as the folder.
      **content: what the template shows.
    """
    loader = jinja2.FileSystemLoader(FOLDER, encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=loader)
    style = markupsafe.Markup((FOLDER / "style.css").read_text(encoding="utf-8"))
    page = environment.get_template(template).render(style=style, name=name or workdir.resolve().name, **content)
    path = workdir / file
    files.write_text(path, page)
    return path
