"""What the pages say is what the program does: commands, keys, files, links, examples, and the size of the first page.

A block of commands (```sh) is run here in a folder that has what it names. The first command of the first page trains a
network of a few thousand parameters; the other trainings end where their first step would begin, after all that the
program checks before it, and leave a run that was finished earlier to the commands that follow. A block that can't be
run stands under a comment that says why, <!-- not run: REASON -->; its flags, keys and files are checked against the
program.
"""

import ast
import configparser
import json
import pathlib
import re
import runpy
import shlex
import shutil
import sys

import numpy as np
import pytest
import tiny
import yaml
from golden.seeded import mobilefacenet_state
from PIL import Image
from state_files import torch_legacy

import ctd_jax
from ctd_jax import training_run
from ctd_jax.config import flatten, load_config
from ctd_jax.data import segmentation_folder
from ctd_jax.data.points import read_folder

REPO = tiny.REPO
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), REPO / "CONTRIBUTING.md"]
NAMES = [str(page.relative_to(REPO)) for page in PAGES]
INSTALL = (
    "pip install -e . && python -m ctd_jax.main --config=configs/recipe.py",
    "pip install -e '.[test]' && pytest -n 2 --dist worksteal",
)
# Than a run of tiny.KEYS; and the tiny teacher has one stage.
SMALLER = {"train.steps": 2, "eval.every": 2, "constraints.delta.layers": ("stage1",)}
SECTIONS = (
    "augment",
    "constraints",
    "data",
    "domains",
    "eval",
    "model",
    "recognition",
    "segmentation",
    "teacher",
    "train",
)
# that are finished before the commands of a page begin, but the README's
RUNS = ("recipe-demo", "ctd_ed-demo", "ft-demo")


def blocks(page: pathlib.Path, language: str) -> list[tuple[str, str | None]]:
    """The fenced blocks of a page, and why each is not run (None: it is)."""
    pattern = rf"(?:<!-- not run: (.*?) -->\n)?^```{language}\n(.*?)^```"
    return [(text, why or None) for why, text in re.findall(pattern, page.read_text("utf-8"), re.M | re.S)]


def commands(text: str) -> list[list[str]]:
    """The commands of a block, each as its arguments; VARIABLE=VALUE and srun before one are taken off."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for words in _parted(shlex.split(line, comments=True)):
            while words and ("=" in words[0] or words[0] == "srun"):
                words.pop(0)
            if words:
                found.append(words)
    return found


def _parted(words: list[str]) -> list[list[str]]:
    if "&&" not in words:
        return [words]
    at = words.index("&&")
    return [words[:at], *_parted(words[at + 1 :])]


def everything(page: pathlib.Path, marked: bool) -> list[list[str]]:
    """The commands of a page that are run (or not), among the latter those within its sentences."""
    found = [words for text, why in blocks(page, "sh") if (why is not None) == marked for words in commands(text)]
    if marked:
        inline = re.findall(r"(?<!`)`((?:python -m|pip install|pytest) [^`]+)`", page.read_text("utf-8"))
        found += [words for text in inline for words in commands(" ".join(text.split()))]
    return found


@pytest.fixture
def place(tmp_path, monkeypatch, landmark_folder, teacher_file):
    """A folder that has what the pages name, to run their commands in."""
    for name in ("configs", "docs", "benchmarks", "experiments"):
        (tmp_path / name).symlink_to(REPO / name)
    for name in ("DIR", "faces", "hands"):
        (tmp_path / name).symlink_to(landmark_folder(size=48, name=name))
    shutil.copy(teacher_file, tmp_path / "teacher.safetensors")
    (tmp_path / "mobilefacenet.pt").write_bytes(torch_legacy(mobilefacenet_state()))
    (tmp_path / "NEW_PICTURES").mkdir()
    picture = Image.fromarray(np.full((50, 40, 3), 90, np.uint8))
    for path in (tmp_path / "NEW_PICTURES" / "a.png", tmp_path / "PICTURE"):
        picture.save(path, "PNG")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(cli, monkeypatch, place, teacher_file, resnet8_file, finished_run):
    """Carries out one command of a page: kind of command -> function of the words after it."""
    train_and_evaluate = training_run.train_and_evaluate

    def until_the_first_step(config, workdir):
        if str(workdir) == "runs/recipe-demo":
            return train_and_evaluate(config, workdir)
        training_run.prepare(config, place / "tfds")
        shutil.copytree(finished_run[0], workdir)
        sys.exit(0)

    def python(words: list[str]) -> None:
        if words[0] == "-m":
            keys = tiny.KEYS | SMALLER | {"teacher.weights": teacher_file}
            if "--config=configs/source.py" in words:
                keys["teacher.weights"] = "none"
            elif any("'stage3'" in word for word in words):  # the teacher needs all its stages
                keys |= {"teacher.weights": resnet8_file, "model.decoder_channels": (8, 8)}
            changes = [f"--config.{key}={value}" for key, value in keys.items()]
            code, _, error = cli(*words[1:], *changes * (words[1] == "ctd_jax.main"))
            assert code == 0, (words, error)
        else:
            monkeypatch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")

    monkeypatch.setattr(training_run, "train_and_evaluate", until_the_first_step)
    return {"python": python, "pytest": _check_tests, "pip": _check_installation, "bash": _check_script}


def _check_tests(words: list[str]) -> None:
    """The tests that are named exist; they run where all tests do."""
    with_value = ("-n", "--dist", "-m")
    before = ["", *words]
    for name in [word for i, word in enumerate(words) if word not in with_value and before[i] not in with_value]:
        file, _, function = name.partition("::")
        assert (REPO / file).is_file(), name
        known = [n.name for n in ast.parse((REPO / file).read_text("utf-8")).body if isinstance(n, ast.FunctionDef)]
        assert not function or function in known, name


def _check_installation(words: list[str]) -> None:
    """What is installed are this package, an extra of it, or PyTorch."""
    extras = configparser.ConfigParser()
    extras.read(REPO / "setup.cfg", "utf-8")
    known = {".", "torch", *(f".[{extra}]" for extra in extras["options.extras_require"])}
    assert words[0] == "install" and set(words[1:]) - {"-e"} <= known, words


def _check_script(words: list[str]) -> None:
    assert (REPO / words[0]).is_file(), words


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_commands_run(name, place, run, finished_run):
    """Every command of a page that is not marked, in their order."""
    if name != "README.md":
        for made in RUNS:
            shutil.copytree(finished_run[0], place / "runs" / made)
    for words in everything(REPO / name, marked=False):
        run[words[0]](words[1:])


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_are_not_run_fit_the_program(name, cli):
    """Their modules, flags, keys of the configuration and files exist."""
    checks = {"pytest": _check_tests, "pip": _check_installation, "bash": _check_script}
    for words in everything(REPO / name, marked=True):
        if words[0] in checks:
            checks[words[0]](words[1:])
        else:
            assert words[:2] == ["python", "-m"], words
            _check_flags(words, cli)


def _check_flags(words: list[str], cli) -> None:
    code, text, _ = cli(words[2], "--help")
    assert code == 0, words
    keys = [word.removeprefix("--config.") for word in words if word.startswith("--config.")]
    given = [word.split("=")[0] for word in words[3:] if word.startswith("--") and not word.startswith("--config.")]
    assert set(given) <= set(re.findall(r"--[a-z_]+", text)), words
    values = dict(word.split("=", 1) for word in words if word.startswith("--config") and "=" in word)
    configs = [values["--config"]] if "--config" in values else []
    methods = [method.partition(":") for method in values.get("--configs", "").split(",") if method]
    configs += [f"configs/{name}.py{colon}{variant}" for name, colon, variant in methods]
    for config in configs:
        load_config(str(REPO / config), keys)
    assert configs or set(keys) <= {"data.root=DIR"}, words


@pytest.mark.parametrize("name", NAMES)
def test_why_a_command_is_not_run(name):
    """Every mark stands right above a block and says a reason."""
    text = (REPO / name).read_text("utf-8")
    assert text.count("<!-- not run") == sum(why is not None for _, why in blocks(REPO / name, "sh"))


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_the_configuration_exist(name):
    keys = flatten(load_config(str(REPO / "configs/default.py"), []))
    known = {key[:end] for key in keys for end in [*(m.start() for m in re.finditer(r"\.", key)), len(key)]}
    text = (REPO / name).read_text("utf-8")
    named = re.findall(r"--config\.([a-z0-9_.]+)=", text)
    for key in re.findall(r"`([a-z_]+(?:\.[a-z0-9_]+)+)(?:=[^`]*)?`", text):
        if key.split(".")[0] in SECTIONS and key.split(".")[-1] not in ("py", "json", "csv"):
            named.append(key)
    assert set(named) <= known, set(named) - known


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [*NAMES, "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    page = REPO / name
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_page_is_reached_from_the_first():
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[0].read_text("utf-8"))}
    assert {name for name in NAMES if name != "README.md"} <= linked
    assert {"LICENSE", "CITATION.cff", "CHANGELOG.md"} <= linked


def test_the_first_page_is_short():
    text = PAGES[0].read_text("utf-8")
    assert len(text.splitlines()) <= 130 and len(text.split()) <= 1000


def test_the_two_commands_of_the_first_page():
    """Scripts take them from there: the first two lines that begin so."""
    lines = [line for line in PAGES[0].read_text("utf-8").splitlines() if line.startswith("pip install")]
    assert tuple(lines[:2]) == INSTALL
    assert INSTALL[1] in (REPO / ".ci/run").read_text("utf-8").splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_prose_are_short(name):
    lines = (REPO / name).read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_repository_exist(name):
    """Those named in a page between backticks, from the top or within ctd_jax/; NAME stands for the reader's own."""
    folders = "ctd_jax|configs|convert|tests|benchmarks|experiments"
    pattern = rf"`((?:[\w.]+/)*\w+\.py|(?:{folders})/[\w./]*)(?:::\w+)?`"
    for path in re.findall(pattern, (REPO / name).read_text("utf-8")):
        assert "NAME" in path or (REPO / path).exists() or any((REPO / "ctd_jax").rglob(path)), path


def test_every_configuration_is_described():
    table = (REPO / "docs/configuration.md").read_text("utf-8")
    methods = {path.stem for path in (REPO / "configs").glob("*.py")} - {"__init__", "default"}
    assert {name for name in methods if f"`{name}`" not in table} == set()


def _pictures(root: pathlib.Path, names, size=(200, 120)) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(root / name)


def test_the_example_of_a_landmark_folder_is_one(tmp_path):
    page = REPO / "docs/data.md"
    (table, _), (content, _) = blocks(page, "csv")[0], blocks(page, "json")[0]
    (tmp_path / "landmarks.csv").write_text(table, "utf-8")
    (tmp_path / "dataset.json").write_text(content, "utf-8")
    _pictures(tmp_path, ("images/anna_1.png", "images/ben_1.png"))
    read = read_folder(tmp_path)
    assert read.landmarks.names == ("left_eye", "right_eye") and read.subjects == ("anna", "ben")
    np.testing.assert_array_equal(read.xy, [[[101.5, 88], [160.2, 87.1]], [[98, 91.5], [np.nan, np.nan]]])
    for index in range(len(read)):
        read.check_picture(index, tmp_path)


def test_the_example_of_measurements_is_one(tmp_path, caplog):
    content = next(text for text, _ in blocks(REPO / "docs/data.md", "json") if "measurements" in text)
    names = json.loads(content)["landmarks"]
    columns = [f"{name}_{axis}" for name in names for axis in "xy"]
    cells = ["10", "10", "20", "10", "40", "10", "50", "10"]
    (tmp_path / "landmarks.csv").write_text(f"image,subject,{','.join(columns)}\na.png,a,{','.join(cells)}\n", "utf-8")
    (tmp_path / "dataset.json").write_text(content, "utf-8")
    _pictures(tmp_path, ["a.png"])
    found = read_folder(tmp_path).landmarks.measurements
    assert [measurement.name for measurement in found] == list(json.loads(content)["measurements"])
    assert caplog.messages == []


def test_the_example_of_a_segmentation_folder_is_one(tmp_path):
    page = REPO / "docs/data.md"
    table, content = blocks(page, "csv")[1][0], blocks(page, "json")[-1][0]
    (tmp_path / "segmentation.csv").write_text(table, "utf-8")
    (tmp_path / "classes.json").write_text(content, "utf-8")
    rows = [line.split(",") for line in table.splitlines()[1:]]
    _pictures(tmp_path, [name for row in rows for name in row[:2]])
    read = segmentation_folder.read(tmp_path)
    assert dict(read.classes) == {"hearts": ("background", "left ventricle", "right ventricle")}
    assert read.splits == ("train", "test")


def test_the_citation_is_valid():
    """What CFF 1.2.0 asks for; the version is the package's."""
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "The ctd_jax authors"}]
    assert {"title", "message", "license"} <= set(citation) and citation["type"] == "software"
    assert (citation["version"], citation["license"]) == (ctd_jax.__version__, "Apache-2.0")
