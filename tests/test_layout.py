"""The house: modules have tests, rooms keep to what others offer, and only the room of tasks knows which they are."""

import ast
import pathlib
import re

import pytest

REPO = pathlib.Path(__file__).parents[1]
PACKAGE = REPO / "ctd_jax"
MODULES = sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
# A module without a test file of its name in the room of its name, and where it is tested.
TESTED_IN = {
    "__main__.py": "test_commands.py",
    "converters.py": "test_commands.py",
    "data/about.py": "data/test_landmark_folder.py",
    "data/archive.py": "data/test_builder.py",
    "data/canvas.py": "data/test_synthetic.py",
    "data/cells.py": "data/test_tables.py",
    "report/raters.py": "review/test_raters.py",
    "review/answers.py": "review/test_server.py",
    "data/columns.py": "data/test_tables.py",
    "data/coverage.py": "data/test_landmark_folder.py",
    "data/drawn_anatomies.py": "data/test_class_maps.py",
    "data/folder.py": "data/test_landmark_folder.py",
    "data/given.py": "test_predict.py",
    "data/identities.py": "tasks/test_recognition.py",
    "data/kinds.py": "test_additions.py",
    "data/painting.py": "data/test_synthetic.py",
    "data/picture_files.py": "data/test_landmark_folder.py",
    "data/points.py": "data/test_dataset.py",
    "data/roots.py": "data/test_lists.py",
    "data/shapes.py": "data/test_annotation_checks.py",
    "data/split_pictures.py": "data/test_dataset.py",
    "data/survey.py": "data/test_grey_range.py",
    "data/targets.py": "data/test_dataset.py",
    "data/tfds_features.py": "data/test_tfds_dataset.py",
    "data/walk.py": "test_predict.py",
    "inspection/findings.py": "inspection/test_page.py",
    "inspection/inspected.py": "inspection/test_page.py",
    "inspection/painting.py": "inspection/test_page.py",
    "formats/tflite.py": "formats/test_formats.py",
    "label_study.py": "test_learning_curve.py",
    "labels/coco.py": "labels/test_conventions.py",
    "labels/cvat_skeleton.py": "labels/test_conventions.py",
    "labels/morphoj.py": "labels/test_conventions.py",
    "labels/zipped.py": "labels/test_conventions.py",
    "labels/deeplabcut.py": "labels/test_conventions.py",
    "labels/imagej.py": "labels/test_conventions.py",
    "labels/imagej_results.py": "labels/test_conventions.py",
    "labels/long.py": "labels/test_conventions.py",
    "labels/xlsx.py": "labels/test_conventions.py",
    "labels/labelme.py": "labels/test_conventions.py",
    "labels/cvat.py": "labels/test_conventions.py",
    "labels/dlib.py": "labels/test_conventions.py",
    "labels/fcsv.py": "labels/test_conventions.py",
    "labels/label_studio.py": "labels/test_conventions.py",
    "labels/slicer.py": "labels/test_conventions.py",
    "labels/sleap.py": "labels/test_by_name.py",
    "labels/placing.py": "labels/test_importing.py",
    "labels/pts.py": "labels/test_conventions.py",
    "labels/reading.py": "labels/test_importing.py",
    "labels/tps.py": "labels/test_conventions.py",
    "models/decoder.py": "models/test_models.py",
    "models/efficientnet.py": "models/test_models.py",
    "models/encoder_decoder.py": "models/test_models.py",
    "models/mobilefacenet.py": "models/test_models.py",
    "models/mobilenet.py": "models/test_models.py",
    "models/resnet.py": "models/test_models.py",
    "review/candidates.py": "test_next_pictures.py",
    "review/listing.py": "test_next_pictures.py",
    "review/people.py": "test_next_pictures.py",
    "tasks/added_domains.py": "tasks/test_domains.py",
    "tasks/landmarks/domains.py": "tasks/test_domains.py",
    "tasks/landmarks/evaluate.py": "metrics/test_mean_shape.py",
    "tasks/landmarks/heatmaps.py": "tasks/test_heatmaps.py",
    "tasks/landmarks/label_files.py": "labels/test_walk.py",
    "tasks/landmarks/network.py": "tasks/test_landmarks.py",
    "tasks/landmarks/presence.py": "tasks/test_presence.py",
    "tasks/landmarks/task.py": "tasks/test_landmarks.py",
    "tasks/landmarks/teacher_run.py": "tasks/test_fsf_ld.py",
    "tasks/landmarks/trained.py": "tasks/test_domains.py",
    "tasks/landmarks/written.py": "test_predict.py",
    "tasks/segmentation/evaluate.py": "tasks/test_segmentation.py",
    "tasks/segmentation/network.py": "tasks/test_segmentation.py",
    "tasks/segmentation/task.py": "tasks/test_segmentation.py",
    "tasks/segmentation/trained.py": "tasks/test_segmentation.py",
    "tasks/student.py": "tasks/test_landmarks.py",
    "tasks/task.py": "test_additions.py",
    "tasks/trained.py": "tasks/test_domains.py",
    "tasks/writer.py": "test_predict.py",
    "training_run.py": "test_main.py",
    "typing.py": "",  # names of types alone
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_tests(module):
    path = pathlib.PurePosixPath(module)
    mirrored = f"{path.parent / f'test_{path.stem}'}.py"
    found = (REPO / "tests" / mirrored).is_file()
    assert found != (module in TESTED_IN), f"tests/{mirrored}, or a row of TESTED_IN"
    if not found and TESTED_IN[module]:
        assert (REPO / "tests" / TESTED_IN[module]).is_file()


def test_no_row_is_of_a_module_that_is_gone():
    assert set(TESTED_IN) <= set(MODULES)


def private_names(path):
    """What a module takes of another one that begins with an underscore."""
    tree = ast.parse(path.read_text("utf-8"))
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctd_jax"):
            for alias in node.names:
                imported[alias.asname or alias.name] = alias.name
    direct = [name for name in imported.values() if name.startswith("_") and not name.startswith("__")]
    through = [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
        and node.attr.startswith("_") and not node.attr.startswith("__")
    ]  # fmt: skip
    return direct + through


@pytest.mark.parametrize("module", MODULES)
def test_no_module_takes_a_private_name_of_another(module):
    assert private_names(PACKAGE / module) == []


def test_a_private_name_is_seen(tmp_path):
    (tmp_path / "a.py").write_text("from ctd_jax.data import folder, _hidden\nfolder._check(1)\n")
    assert private_names(tmp_path / "a.py") == ["_hidden", "folder._check"]


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(("tasks/", "config/"))])
def test_only_the_room_of_tasks_knows_which_they_are(module):
    text = (PACKAGE / module).read_text("utf-8")
    assert not re.search(r"""config\.task|config\[.task.\]|\.task\s*[!=]=""", text)


def undocumented(path, contracts=frozenset()):
    """Public functions of a file with five arguments or more, of which one at least is not in its `Args` (for a
    constructor: its class's). A method that keeps a contract, which has its arguments, needs none."""
    found = []

    def visit(body, owner=None):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                visit(node.body, node)
            if not isinstance(node, ast.FunctionDef) or (node.name.startswith("_") and node.name != "__init__"):
                continue
            every = [*node.args.posonlyargs, *node.args.args, node.args.vararg, *node.args.kwonlyargs, node.args.kwarg]
            names = [one.arg for one in every if one and one.arg not in ("self", "cls")]
            where = owner if node.name == "__init__" else node
            _, _, section = (ast.get_docstring(where) or "").partition("Args:\n")
            lines = re.findall(r"^  ([\w, *]+):", section.partition("\n\n")[0], re.M)
            lacking = set(names) - {name for line in lines for name in line.replace("*", "").split(", ")}
            if len(names) >= 5 and lacking and (node.name, *names) not in contracts:
                found.append(f"{node.name}: {', '.join(sorted(lacking))}")

    visit(ast.parse(path.read_text("utf-8")).body)
    return found


@pytest.mark.parametrize("room", ["ctd_jax", "configs", "convert", "experiments", "benchmarks"])
def test_many_arguments_are_documented(room):
    loss = ("loss", "params", "batch_stats", "constants", "batch", "keys")  # of `Task`
    found = {p.relative_to(REPO).as_posix(): undocumented(p, {loss}) for p in sorted((REPO / room).rglob("*.py"))}
    assert {path: functions for path, functions in found.items() if functions} == {}


def test_an_argument_without_a_word_is_seen(tmp_path):
    text = 'def f(a, b, *, c, d, **e):\n    """Five.\n\n    Args:\n      a, b: two.\n      c: one,\n        at most.\n'
    text += '{}    """\n'
    (tmp_path / "a.py").write_text(text.format("      e: others.\n"))
    assert undocumented(tmp_path / "a.py") == ["f: d"]
    (tmp_path / "a.py").write_text(text.format("      d: one.\n      e: others.\n"))
    assert undocumented(tmp_path / "a.py") == []
