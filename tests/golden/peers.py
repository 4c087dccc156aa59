"""Makes peers.csv and peers.json beside it: a table of predictions, and what other tools' own code says of it.

    python tests/golden/peers.py CLONES

CLONES holds the repositories of `COMMITS`, each at its commit; landmarker 0.4.1, deeplabcut 3.0.2, mmpose 1.3.2 and
sleap-nn 0.3.5 come from PyPI (without their dependencies, but for landmarker's, sleap-io, loguru and networkx).
"""

import collections.abc
import contextlib
import csv
import importlib
import importlib.util
import io
import json
import sys
import tempfile
import types
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
COMMITS = {
    "MedicalDataAugmentationTool": "34e3723",
    "YOLO_Universal_Anatomical_Landmark_Detection": "57a960c",
    "CL-Detection2023": "dc1ce2b",
    "CLdetection2023": "5d61360",
    "HRNet-Facial-Landmark-Detection": "f776dbe",
}
SPACING, RADII, COMPLETE = 0.1, (2.0, 2.5, 3.0, 4.0), 6
GRID, SIZE = (416, 512), (800, 900)
SEED = 3


def draw():
    """Points `[N, K, 2]` predicted and annotated, and confidences `[N, K]`, as peers.csv has them. From picture
    `COMPLETE` on points are missing; the last has none; one is predicted so far away that its OKS is 0."""
    rng = np.random.default_rng(SEED)
    n, k = 10, 29
    true = np.round(rng.uniform(200, 500, (n, k, 2)), 3)
    scale = np.array([1, 3, 8, 15, 30, 60, 5, 4000, 4, 4.0])
    xy = np.round(true + rng.normal(0, 1, true.shape) * scale[:, None, None], 3)
    for place, error in enumerate((20, 25, 30, 40, 3, 6)):  # exactly on a radius
        true[0, place], xy[0, place] = (250 + place, 300), (250 + place + error, 300)
    true[6, [3, 4, 20]] = np.nan
    true[7, 8] = np.nan
    true[8, 1:] = np.nan
    true[9] = np.nan
    return xy, true, np.round(rng.uniform(0.1, 1, (n, k)), 3)


def write_table(xy, true, confidence):
    with (HERE / "peers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = "image,subject,landmark,x,y,true_x,true_y,error_px,error_mm,confidence"
        writer.writerow(columns.split(","))
        for i in range(len(xy)):
            for k in range(xy.shape[1]):
                error = np.linalg.norm(xy[i, k] - true[i, k])
                truth = ["", "", "", ""]
                if np.isfinite(error):
                    truth = [*(f"{v:.3f}" for v in true[i, k]), f"{error:.4f}", f"{SPACING * error:.4f}"]
                point = [f"{v:.3f}" for v in xy[i, k]]
                writer.writerow([f"{i}.png", f"s{i}", f"p{k}", *point, *truth, f"{confidence[i, k]:.3f}"])


def package(name, path=None):
    """A package whose modules can be imported without its own __init__."""
    module = types.ModuleType(name)
    module.__path__ = [str(path)] if path else []
    sys.modules[name] = module
    return module


def installed(name):
    return Path(importlib.util.find_spec(name).submodule_search_locations[0])


def landmarker(xy, true, confidence):
    import torch

    path = installed("landmarker")
    package("landmarker", path)
    from landmarker.metrics.metrics import point_error, sdr

    points = [torch.tensor(p) for p in (true, xy)]
    spacing = torch.full((len(xy), 2), SPACING, dtype=torch.float64)
    out = {"point_error, nanmean": point_error(*points, pixel_spacing=spacing, reduction="nanmean").item()}
    for r, value in sdr(RADII, *points, pixel_spacing=spacing, nanmean=True).items():
        out[f"sdr, {r:g} mm"] = value
    return out


def payer(xy, true, hands):
    sys.path.insert(0, str(CLONES / "MedicalDataAugmentationTool"))
    from utils.landmark.common import Landmark
    from utils.landmark.landmark_statistics import LandmarkStatistics

    statistics = LandmarkStatistics()
    how = {"normalization_factor": 50, "normalization_indizes": [1, 5]} if hands else {"spacing": np.full(2, SPACING)}
    for i in range(len(xy)):
        predicted = [Landmark(p) for p in xy[i]]
        truth = [Landmark(p, is_valid=bool(np.isfinite(p).all())) for p in true[i]]
        statistics.add_landmarks(str(i), predicted, truth, **how)
    out = {}
    for name, values in (("PE", statistics.get_pe_statistics()), ("IPE", statistics.get_ipe_statistics())):
        out |= {f"{name} {word}": float(value) for word, value in zip(("mean", "std", "median"), values, strict=True)}
    valid, _, _ = statistics.get_num_valid()
    for r, count in zip(RADII, statistics.get_num_outliers(RADII), strict=True):
        out[f"#outliers >= {r:g} mm"] = 100 * count / valid
    sys.path.pop(0)
    return out


def gu2net(xy, true, factor, grid=False, hands=False):
    np.asscalar, np.float = (lambda value: value.item()), float  # as NumPy had them
    collections.Iterable = collections.abc.Iterable  # as Python had it
    for name in ("SimpleITK", "skimage.measure", "yaml"):
        sys.modules.setdefault(name, types.ModuleType(name))
    root = CLONES / "YOLO_Universal_Anatomical_Landmark_Detection/universal_landmark_detection"
    package("model", root / "model")
    package("model.utils", root / "model/utils")
    for name in ("toYaml", "get_config", "transformer"):
        setattr(sys.modules["model.utils"], name, None)
    kit = importlib.import_module("model.utils.kit")
    for name in ("mkdir", "gaussianHeatmap", "getPointsFromHeatmap"):
        setattr(sys.modules["model.utils"], name, getattr(kit, name))
    graphics = importlib.import_module("model.utils.graphics")
    sys.modules["model.utils"].dis2, sys.modules["model.utils"].colorRGB = graphics.dis2, kit.colorRGB
    spec = importlib.util.spec_from_file_location("evaluation", root / "evaluation.py")
    evaluation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluation)
    package("model.datasets", root / "model/datasets")
    ceph = importlib.import_module("model.datasets.cephalometric").Cephalometric
    heatmap = kit.gaussianHeatmap(3)

    def on_grid(points):
        """Its own reading of a file of landmarks, whose heatmaps it reads back."""
        data = ceph.__new__(ceph)
        data.num_landmark, data.size = len(points), GRID
        with tempfile.TemporaryDirectory() as folder:
            data.pth_label_junior = data.pth_label_senior = folder
            Path(folder, "a.txt").write_text("".join(f"{x},{y}\n" for x, y in points))
            rounded = data.readLandmark("a", SIZE)
        return kit.getPointsFromHeatmap([heatmap(point, GRID) for point in rounded])

    distances = []
    for predicted, truth in zip(xy, true, strict=True):
        if grid:
            predicted, truth = on_grid(predicted), on_grid(truth)
        if hands:
            factor = evaluation.WRIST_WIDTH / evaluation.radial(truth[0], truth[4])
        distances += evaluation.cal_all_distance(list(predicted), list(truth), factor)
    with contextlib.redirect_stdout(io.StringIO()):
        summary = evaluation.analysis(distances, "")
    return {"MRE": summary["MRE"], "STD": summary["STD"]} | {f"SDR {r:g}": v for r, v in summary["SDR"].items()}


def cl2023(xy, true):
    for name in ("SimpleITK",):
        sys.modules.setdefault(name, types.ModuleType(name))
    spec = importlib.util.spec_from_file_location("cl", CLONES / "CL-Detection2023/utils/cldetection_utils.py")
    baseline = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(baseline)
    rows = {str(i): {"scale": SPACING, "gt": true[i], "predict": xy[i]} for i in range(len(xy))}
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        mre, sdr = baseline.calculate_prediction_metrics(rows)

    source = CLONES / "CLdetection2023/mmpose_package/mmpose/mmpose/evaluation/metrics/cephalometric_metric.py"
    quiet = types.SimpleNamespace(info=lambda text: None)
    for name, content in {
        "mmengine.evaluator": {"BaseMetric": object},
        "mmengine.logging": {"MMLogger": types.SimpleNamespace(get_current_instance=lambda: quiet)},
        "mmpose.registry": {"METRICS": types.SimpleNamespace(register_module=lambda: lambda metric: metric)},
        "sutd.functional": dict.fromkeys(("keypoint_auc", "keypoint_epe", "keypoint_nme", "keypoint_pck_accuracy")),
    }.items():
        package(name.split(".")[0])
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)
    package("sutd.metrics")
    spec = importlib.util.spec_from_file_location("sutd.metrics.cephalometric_metric", source)
    sutd = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sutd)
    metric = sutd.CephalometricMetric.__new__(sutd.CephalometricMetric)
    mask = np.ones((1, xy.shape[1]), bool)
    results = [
        {"pred_coords": p[None], "gt_coords": t[None], "mask": mask, "spacing": SPACING}
        for p, t in zip(xy, true, strict=True)
    ]
    with contextlib.redirect_stdout(text):
        found = metric.compute_metrics(results)
    spread = text.getvalue().split("\u00b1")[1].split()[0]  # it only prints the standard deviation
    out = {"MRE": float(mre), "MRE, std": float(spread), "SDR 2 mm, baseline (<)": 100 * float(sdr)}
    assert np.isclose(found["MRE"], mre)
    return out | {f"SDR {r:g} mm, SUTD (<=)": float(found[f"SDR {r:.1f}mm"]) for r in RADII}


def hrnet_face(xy, true):
    import torch

    root = CLONES / "HRNet-Facial-Landmark-Detection/lib"
    package("lib", root)
    package("lib.utils")
    sys.modules["lib.utils.transforms"] = types.ModuleType("lib.utils.transforms")
    sys.modules["lib.utils.transforms"].transform_preds = None
    package("lib.core", root / "core")
    from lib.core.evaluation import compute_nme

    nme = compute_nme(torch.tensor(xy), {"pts": torch.tensor(true)})
    # the last lines of lib/core/function.py, `inference`
    return {
        "nme": np.sum(nme) / len(nme),
        "[008]": (nme > 0.08).sum() / len(nme),
        "[010]": (nme > 0.10).sum() / len(nme),
    }


def mmpose(xy, true):
    sys.modules.pop("mmpose", None)
    spec = importlib.util.find_spec("mmpose")
    root = Path(spec.submodule_search_locations[0])
    package("mmpose", root)
    package("mmpose.codecs")
    sys.modules["mmpose.codecs.utils"] = types.ModuleType("mmpose.codecs.utils")
    for name in ("get_heatmap_maximum", "get_simcc_maximum"):
        setattr(sys.modules["mmpose.codecs.utils"], name, None)
    package("mmpose.evaluation", root / "evaluation")
    package("mmpose.evaluation.functional", root / "evaluation/functional")
    from mmpose.evaluation.functional.keypoint_eval import keypoint_auc, keypoint_epe, keypoint_nme

    mask = np.isfinite(true).all(-1)
    filled = np.nan_to_num(true)
    out = {"epe": keypoint_epe(xy, filled, mask), "auc@20thrs, 30 px": keypoint_auc(xy, filled, mask, 30)}
    both = mask[:, 8] & mask[:, 9]
    eyes = np.linalg.norm(true[both][:, 8] - true[both][:, 9], axis=1, keepdims=True)
    out["nme"] = keypoint_nme(xy[both], filled[both], mask[both], np.tile(eyes, [1, 2]))
    return {key: float(value) for key, value in out.items()}


def deeplabcut(xy, true, confidence):
    root = installed("deeplabcut")
    package("deeplabcut", root)
    package("deeplabcut.core", root / "core")
    package("deeplabcut.core.metrics", root / "core/metrics")
    sys.modules["deeplabcut.core.crossvalutils"] = types.ModuleType("deeplabcut.core.crossvalutils")
    sys.modules["deeplabcut.core.crossvalutils"].find_closest_neighbors = None  # of several animals
    from deeplabcut.core.metrics.api import compute_metrics

    truth = {str(i): np.concatenate([p, np.full((len(p), 1), 2.0)], -1)[None] for i, p in enumerate(true)}
    found = {
        str(i): np.concatenate([p, c[:, None]], -1)[None] for i, (p, c) in enumerate(zip(xy, confidence, strict=True))
    }
    scores = compute_metrics(truth, found, single_animal=True, pcutoff=0.6)
    names = {"rmse": "rmse", "rmse_pcutoff, 0.6": "rmse_pcutoff", "mAP": "mAP", "mAR": "mAR"}
    return {ours: float(scores[name]) for ours, name in names.items()}


def sleap(xy, true, confidence):
    import sleap_io

    root = installed("sleap_nn")
    package("sleap_nn", root)
    package("sleap_nn.data", root / "data")
    from sleap_nn.evaluation import Evaluator

    skeleton = sleap_io.Skeleton([f"p{k}" for k in range(xy.shape[1])])
    video = sleap_io.Video(filename="a.mp4")
    truth, found = [], []
    for i in range(len(xy)):
        if np.isfinite(true[i]).any():
            one = sleap_io.Instance.from_numpy(true[i], skeleton=skeleton)
            truth.append(sleap_io.LabeledFrame(video=video, frame_idx=i, instances=[one]))
        score = confidence[i]
        one = sleap_io.PredictedInstance.from_numpy(xy[i], skeleton=skeleton, point_scores=score, score=score.mean())
        found.append(sleap_io.LabeledFrame(video=video, frame_idx=i, instances=[one]))
    scores = Evaluator(sleap_io.Labels(truth), sleap_io.Labels(found)).evaluate()
    voc, distances, pck = scores["voc_metrics"], scores["distance_metrics"], scores["pck_metrics"]
    out = scores["mOKS"] | {key: voc[key] for key in voc if key.endswith(("mAP", "mAR"))}
    out |= {key: distances[key] for key in ("avg", "p50", "p75", "p90", "p95", "p99")}
    out |= {key: pck[key] for key in ("mPCK", "PCK@5", "PCK@10")}
    out |= {f"visibility {key}": scores["visibility_metrics"][key] for key in ("precision", "recall")}
    return {key: float(value) for key, value in out.items()}


if __name__ == "__main__":
    CLONES = Path(sys.argv[1])
    xy, true, confidence = draw()
    write_table(xy, true, confidence)
    whole = xy[:COMPLETE], true[:COMPLETE]
    golden = {
        "landmarker": landmarker(xy, true, confidence),
        "payer": payer(xy, true, hands=False),
        "payer, hands": payer(xy, true, hands=True),
        "gu2net": gu2net(*whole, SPACING),
        "gu2net, hands": gu2net(*whole, None, hands=True),
        "gu2net, grid": gu2net(*whole, 0.46875, grid=True),
        "gu2net, grid, hands": gu2net(*whole, None, grid=True, hands=True),
        "hrnet_face": hrnet_face(*whole),
        "deeplabcut": deeplabcut(xy, true, confidence),
        "sleap": sleap(xy, true, confidence),
        "cl2023": cl2023(*whole),
        "mmpose": mmpose(xy, true),
    }
    (HERE / "peers.json").write_text(json.dumps(golden, indent=1) + "\n")
