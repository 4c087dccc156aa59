"""Text files are in UTF-8 whatever the locale is: every place that opens one says so."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).parents[2]
CASE = REPO / "../shared/cases/umlaut_subjects_in_latin1_locale"
FOLDERS = ("ctd_jax", "convert", "configs", "benchmarks", "experiments", "docs")
FILES = [path for folder in FOLDERS for path in (REPO / folder).rglob("*.py")]
# Calls that open text, and the place of their mode among the arguments without a name.
OPENS = {"open": None, "read_text": None, "write_text": None}


def opens_text_in_the_locale(call):
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    owner = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
    if isinstance(call.func, ast.Name) and name != "open":  # a function of ours
        return False
    if name not in OPENS or owner in ("Image", "os", "files", "archive", "tables", "zipfile"):
        return False
    if any(word.arg in ("encoding", None) for word in call.keywords):  # None: **keywords
        return False
    texts = [a.value for a in [*call.args, *(word.value for word in call.keywords)] if isinstance(a, ast.Constant)]
    if name == "open":
        return not any("b" in text for text in texts if isinstance(text, str) and set(text) <= set("rwxab+t"))
    return not (name == "read_text" and texts) and not (name == "write_text" and len(call.args) > 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_every_text_file_says_its_encoding(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and opens_text_in_the_locale(node)]
    assert not found, f"lines {found}"


CLAIM = """
import locale, pathlib, sys
from configs import default
from ctd_jax import data, run_folder
assert locale.getencoding() not in ("UTF-8", "utf-8"), locale.getencoding()
config = default.get_config().data
config.root, config.image_size = sys.argv[1], 32
pictures = data.load(config, pathlib.Path(sys.argv[2]))
for _ in range(2):  # the second reads what the first wrote
    run_folder.claim_split(pathlib.Path(sys.argv[2]), pictures.rows())
print(ascii(pictures.everything.subjects[0]))
"""


@pytest.mark.slow
def test_umlauts_in_another_locale(tmp_path):
    if not CASE.is_dir():
        pytest.skip(f"needs {CASE}, which is not part of the repository")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", CLAIM, str(CASE), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "'J\\xfcrgen 0'\n"
    assert "Jürgen 0" in (tmp_path / "split.csv").read_text(encoding="utf-8")
