"""The page of augmented training pictures: what the network sees, before it is trained."""

import base64
import io
import json
import re

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from configs import mtmd, source
from ctd_jax import training_run
from ctd_jax.report import overlays


def images(path):
    """The pictures of each row of a page."""
    rows = path.read_text("utf-8").split("<figure")[1:]
    return [
        [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in re.findall(r"base64,([^\"]+)", row)]
        for row in rows
    ]


def blue(picture):
    """The pixels that are as blue as an annotation."""
    return np.abs(np.asarray(picture, int) - overlays.TRUTH).max(-1) < 40


def circles(picture):
    return blue(picture).sum()


@pytest.mark.slow
@pytest.mark.parametrize("row", ["ctd_ed", "mtmd", "source"])
def test_a_page_of_each_task(row, teacher_file, tmp_path):
    changes = {"teacher__weights": "none", "model__encoder": "resnet8"} if row == "source" else {}
    module = {"mtmd": mtmd, "source": source}.get(row)
    config = tiny.config(teacher_file, *[module] * bool(module), **tiny.CHANGING, **changes)
    rows = images(training_run.show_augmented(config, tmp_path / "run", 3))
    assert len(rows) == 3 and all(len(row) == 4 for row in rows)
    for plain, *drawn in rows:
        assert len({one.tobytes() for one in (plain, *drawn)}) == 4
        assert all((circles(one) > 20) == (row != "source") for one in (plain, *drawn))


@pytest.mark.slow
def test_circles_lie_where_the_landmarks_are_moved_to(teacher_file):
    """In mirror images; and there is none of a landmark that is not annotated."""
    task = tiny.task(teacher_file, **tiny.STILL | {"augment__flip": 1.0})
    batch, keys = task.train.batch(np.arange(2)), jax.random.split(jax.random.key(0), 2)
    for plain, turned in zip(task.painted(batch, None), task.painted(batch, keys), strict=True):
        one, other = blue(plain)[:, ::-1], blue(turned)
        assert (one & other).sum() > 0.6 * max(one.sum(), other.sum()) > 100  # circles are drawn at whole pixels
        assert np.abs(np.asarray(plain, int)[:, ::-1] - np.asarray(turned, int)).mean() < 4
    fewer = batch | {"mask": batch["mask"] & (np.arange(batch["mask"].shape[1]) < 5)}
    for seen_by in (None, keys):
        all_of_them, five = (circles(task.painted(one, seen_by)[0]) for one in (batch, fewer))
        assert 0 < five < 0.5 * all_of_them


@pytest.mark.slow
def test_without_augmentation_all_pictures_of_a_row_are_those_of_its_name(teacher_file, tmp_path):
    pages = {
        name: training_run.show_augmented(tiny.config(teacher_file, **changes), tmp_path / name, 3)
        for name, changes in (("still", tiny.STILL), ("changing", tiny.CHANGING))
    }
    still, changing = images(pages["still"]), images(pages["changing"])
    for row in still:
        assert len({one.tobytes() for one in row}) == 1
    assert len({row[0].tobytes() for row in still}) == 3
    assert [row[0].tobytes() for row in changing] == [row[0].tobytes() for row in still]
    text, names = pages["still"].read_text("utf-8"), tiny.task(teacher_file).train.images
    shown = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert len({*shown}) == 3 and {*shown} <= {*names} and "then 3 random draws each" in text


@pytest.mark.slow
def test_the_page_comes_before_the_run_and_leaves_it_alone(cli, monkeypatch, tmp_path, teacher_file):
    monkeypatch.chdir(tmp_path)
    changes = tiny.CHANGING | {"train__steps": 2}
    command = ["--config=ctd_ed", "--workdir=run", *tiny.arguments(teacher_file, **changes)]
    code, out, _ = cli("ctd_jax.main", *command, "--show=50")
    assert (code, out) == (0, "Training pictures: run/augmented.html\n")
    page = tmp_path / "run" / "augmented.html"
    assert len(images(page)) == 8  # there are no more
    assert "augment.rotation=20.0" in page.read_text("utf-8") and "8 of the 8 training pictures" in page.read_text(
        "utf-8"
    )
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"augmented.html", "tfds"}
    code, _, error = cli("ctd_jax.main", *command)
    assert code == 0, error
    assert json.loads((tmp_path / "run" / "config.json").read_text())["augment"]["noise"] == 0.05
    code, _, _ = cli("ctd_jax.main", *command, "--show=2")
    assert code == 0 and len(images(page)) == 2
    code, _, error = cli("ctd_jax.main", *command, "--show=2", "--config.augment.rotation=10")
    assert code == 2 and "augment.rotation was 20.0, is 10.0" in error


@pytest.mark.parametrize(
    ("argument", "part"),
    [
        ("--show=0", "0 is not a positive integer"),
        ("--show=few", "'few'"),
        ("--distributed", "--show is for one process"),
    ],
)
def test_what_cannot_be_shown(cli, argument, part):
    code, _, error = cli("ctd_jax.main", "--config=ctd_ed", "--show=2", argument)
    assert code == 2 and part in error
