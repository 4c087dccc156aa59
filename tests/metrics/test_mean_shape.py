"""The mean shape: placed by hand, its numbers, and whether a network is better; and those of whole runs."""

import csv
import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tiny
from point_tables import table as point_table

from ctd_jax import data, files, metrics, report
from ctd_jax.metrics import Predictions, mean_shape
from ctd_jax.tasks.landmarks import evaluate
from ctd_jax.tasks.student import Facts
from ctd_jax.training.parallel import Parallel

CASES = pathlib.Path(__file__).parents[3] / "shared" / "cases"
NAN = float("nan")
SETTINGS = {"normalizer": None, "thresholds": {"nme": 0.1, "mm": 4.0, "px": 10.0}, "radii_mm": (2,)}


def dataset(xy, sizes, boxes=None, cache_mib=1):
    """Pictures of `sizes` (width, height) with points, seen at 10 x 10."""
    xy, n = np.asarray(xy, float), len(xy)
    names = tuple(f"{i}.png" for i in range(n))
    return data.Dataset(
        images=names,
        subjects=names,
        targets=data.Points(data.Landmarks(tuple("abcdefgh"[: xy.shape[1]])), xy),
        spacing=np.full((n, 2), NAN),
        boxes=np.full((n, 4), NAN) if boxes is None else np.asarray(boxes, float),
        original=lambda i: np.zeros((sizes[i][1], sizes[i][0], 3), np.uint8),
        size=10,
        margin=0.0,
        cache_mib=cache_mib,
    )


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_it_is_placed_in_the_networks_square(cache_mib):
    """The middles of pictures of 40 x 20, 20 x 40 and 10 x 10 pixels are one place; so is a quarter of the width to the
    right of it. A point that nobody annotated has no place."""
    xy = [[[19.5, 9.5], [29.5, 9.5], [NAN, NAN]], [[9.5, 19.5], [19.5, 19.5], [NAN, NAN]]]
    train = dataset(xy, [(40, 20), (20, 40)], cache_mib=cache_mib)
    shape = mean_shape.of(train, dataset(np.full((1, 3, 2), NAN), [(10, 10)]))
    np.testing.assert_allclose(shape, [[4.5, 4.5], [7.0, 4.5], [NAN, NAN]])
    test = dataset([[[1, 2], [NAN, NAN], [3, 4]]] * 2, [(20, 40), (80, 40)], cache_mib=cache_mib)
    placed = mean_shape.predictions(shape, test)
    np.testing.assert_allclose(placed.xy[0], [[9.5, 19.5], [19.5, 19.5], [NAN, NAN]])
    np.testing.assert_allclose(placed.xy[1], [[39.5, 19.5], [59.5, 19.5], [NAN, NAN]])
    np.testing.assert_allclose(placed.error_px[0], [np.hypot(8.5, 17.5), NAN, NAN])


def test_a_box_is_its_frame():
    train = dataset([[[30.0, 30]]], [(100, 100)], boxes=[[20, 20, 40, 40]])
    shape = mean_shape.of(train, train)
    test = dataset([[[0.0, 0]]], [(100, 100)], boxes=[[0, 50, 40, 90]])
    np.testing.assert_allclose(mean_shape.predictions(shape, test).xy[0], [[20, 70]])


@pytest.mark.parametrize(("of_val", "place"), [([1.0] * 3, 0.0), ([3.0] * 9, 3.0)])
def test_mean_or_median_is_what_lies_nearer_to_the_labels(of_val, place):
    """Training points at x = 0, 0 and 9: the median is 0, the mean 3. Distances to them and to three points of val at 1
    sum up to 12 and 18; with nine at 3, to 36 and 12."""
    train, val = (dataset([[[x, 5.0]] for x in xs], [(10, 10)] * len(xs)) for xs in ([0.0, 0.0, 9.0], of_val))
    np.testing.assert_allclose(mean_shape.of(train, val)[0], [place, 5.0])


# ---------------------------------------------------------------- whether a network is better


@pytest.mark.parametrize(
    ("errors", "beaten"),
    [
        ([8.0] * 10, True),
        ([10.0] * 10, False),
        ([12.0] * 10, False),
        ([1.0, 18.0] * 5, False),  # 0.5 px better, which may be chance
        ([9.0], True),  # there is no interval of one subject
        ([11.0], False),
    ],
)
def test_a_network_has_to_beat_it(errors, beaten):
    """The mean shape is 10 px off in every picture."""
    table, baseline = point_table(np.array(errors)[:, None]), point_table(np.full((len(errors), 1), 10.0))
    found = mean_shape.summarize(table, baseline, SETTINGS)
    assert found["beaten"] == beaten and found["me_px"] == 10 and found["fr@10"] == 0
    minus = found["network_minus_it"]
    assert minus["measure"] == "me_px" and minus["difference"] == pytest.approx(np.mean(errors) - 10)
    assert ("ci95" in minus) == (len(errors) > 1) and found["per_landmark"]["p0"]["me_px"] == 10


# ---------------------------------------------------------------- whole runs


def evaluated(case, tmp_path, monkeypatch, page=True, change=lambda pictures: pictures, **facts):
    """metrics.json of a network that is 1 px off everywhere, on one of the shared cases; `page`: with its report."""
    if not CASES.exists():
        pytest.skip(f"{CASES} is not here")
    config = tiny.config("none", data__root=str(CASES / case))
    pictures = change(data.load(config.data, tmp_path / "tfds"))
    random = np.random.default_rng(0)

    def look_at(look, variables, part, parallel, batch_size):
        true = part.targets.xy
        xy = np.where(np.isnan(true), 20.0, true) + random.choice([-0.6, 0.6], true.shape)
        confidence = np.ones(xy.shape[:2])
        table = Predictions.from_points(part.images, part.subjects, part.targets.landmarks.names, xy, true_xy=true,
                                        spacing=part.spacing, confidence=confidence)  # fmt: skip
        return evaluate.Looked(table, {"peak": confidence}, np.ones(len(xy)), None)

    monkeypatch.setattr(evaluate, "look_at", look_at)
    if not page:
        monkeypatch.setattr(report.landmarks, "write", lambda *_: None)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    return evaluate.evaluate(None, {}, pictures, Parallel("shard_map"), config, tmp_path, Facts(1, 0.0, 0.1, **facts))


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("a_landmark_never_annotated", "Not predicted, as no training picture has it annotated: chin."),
        (
            "a_landmark_only_in_test",
            "Not predicted, as no training picture has it annotated: chin. Its cells stay empty",
        ),
        ("spacing_in_one_test_picture_only", "The millimetres are those of 1 of the 4 pictures"),
        ("normalizer_never_known_in_test", "There is no NME: none of the 4 pictures has both left_eye and right_eye"),
    ],
)
def test_shared_cases(case, text, tmp_path, monkeypatch):
    found = evaluated(case, tmp_path, monkeypatch, page=False)
    assert any(one.startswith(text) for one in found["cautions"]), found["cautions"]
    assert text in report.console(found)


@pytest.mark.slow
def test_millimetres_of_one_picture_do_not_head_the_report(tmp_path, monkeypatch):
    found = evaluated("spacing_in_one_test_picture_only", tmp_path, monkeypatch)
    assert "Mean error (ME), 1 of 4 pictures " in report.console(found)
    assert "Success detection rate (SDR), 2 mm, 4 of 16 points " in report.console(found)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"lie on average <b>{found['me_px']:.2f} px</b>" in page


@pytest.mark.slow
def test_only_annotated_pictures_count_as_trained_on(tmp_path, monkeypatch):
    found = evaluated("half_of_train_unlabelled", tmp_path, monkeypatch)
    with (CASES / "half_of_train_unlabelled" / "landmarks.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    labelled = [row for row in rows if any(cell for key, cell in row.items() if key.endswith("_x"))]
    assert found["n_train"] == len(labelled) < len(rows)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "What to know first" in page and all(text in page for text in found["cautions"])
    assert f"<dt>Labelled pictures trained on</dt><dd>{len(labelled)}</dd>" in page


def test_a_landmark_that_no_drawn_rater_has_is_not_predicted(tmp_path, monkeypatch):
    def drawn(pictures):
        points = pictures.targets
        of_raters = np.stack([points.xy] * 2, axis=1)
        of_raters[:, :, 0] = NAN
        points = dataclasses.replace(points, of_raters=of_raters, draws=True)
        return dataclasses.replace(pictures, everything=dataclasses.replace(pictures.everything, targets=points))

    found = evaluated("spacing_in_one_test_picture_only", tmp_path, monkeypatch, page=False, change=drawn)
    first, *others = found["per_landmark"].values()
    assert first == {"n": 0, "ci95": {}, "n_train": 0} and found["n_train"] > 0
    assert all(one["n_train"] == found["n_train"] and one["n"] for one in others)


def test_a_landmark_that_the_run_before_learned_is_predicted(tmp_path, monkeypatch):
    found = evaluated("a_landmark_only_in_test", tmp_path, monkeypatch, page=False, learned_before=("chin", "left_eye"))
    chin, eye = (found["per_landmark"][name] for name in ("chin", "left_eye"))
    assert chin["n"] and chin["n_train"] == 0 and chin["learned_before"]
    assert eye["n_train"] and "learned_before" not in eye


def test_a_run_says_first_that_it_learned_nothing(finished_run):
    """Four steps from random weights. The mean shape's numbers are those of mean_shape.csv, and of NumPy: all pictures
    are of one size, so that the frame drops out."""
    run, out, _ = finished_run
    found = json.loads((run / "metrics.json").read_text())
    assert out.splitlines()[0] == found["cautions"][0]
    assert out.startswith("This network is no better than the mean shape")
    page = (run / "report.html").read_text("utf-8")
    assert page.index("This network is no better than the mean shape") < page.index("lie on average")
    table = metrics.read_predictions(run / "mean_shape.csv")
    assert len(table.images) == 4 and np.isnan(table.confidence).all()
    assert found["mean_shape"]["me_mm"] == pytest.approx(np.nanmean(np.nanmean(table.error_mm, axis=1)), rel=1e-6)
    root = json.loads((run / "config.json").read_text())["data"]["root"]
    with pathlib.Path(root, "landmarks.csv").open(encoding="utf-8") as file:
        train = [row for row in csv.DictReader(file) if row["split"] == "train"]
    points = np.array([[float(row[f"nose_tip_{axis}"]) for axis in "xy"] for row in train])
    tips = table.xy[:, table.landmarks.tolist().index("nose_tip")]
    assert (np.abs(tips - points.mean(axis=0)) < 2e-3).all() or (np.abs(tips - np.median(points, axis=0)) < 2e-3).all()
    assert found["n_train"] == len(train) and found["per_landmark"]["nose_tip"]["n_train"] == len(train)


@pytest.mark.slow
def test_the_report_is_the_last_file_of_a_run(tmp_path, monkeypatch):
    """Its presence means that the run is finished."""
    written, writing = [], files.writing
    monkeypatch.setattr(
        files, "writing", lambda path, **keys: written.append(pathlib.Path(path)) or writing(path, **keys)
    )
    evaluated("a_landmark_only_in_test", tmp_path, monkeypatch)
    assert written[-1] == tmp_path / "report.html" and written.count(written[-1]) == 1
    assert written[-1].read_text("utf-8").count("never trained") == 1
    assert {"metrics.json", "predictions.csv", "mean_shape.csv", "ced.png", "overlays.png"} <= {p.name for p in written}
