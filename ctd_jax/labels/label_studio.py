"""Label Studio's JSON. Coordinates are percent of the picture's width and height, from its corner: the centre of the
first pixel is at 50 / width. Where points have a confidence, all go out as predictions, else as annotations."""

import json
import logging
import math
import pathlib
import re
import urllib.parse
from collections.abc import Iterator

from ctd_jax.data import pictures, tables
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

_log = logging.getLogger(__name__)
UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


def recognises(name: str, head: str) -> bool:
    return name.endswith(".json") and '"data"' in head and ('"annotations"' in head or '"predictions"' in head)


def read(path: pathlib.Path, context: Context) -> Labels:
    """The annotations of each task, or the predictions where no task has any, and this one was not skipped; see
    `labels.Format`."""
    path = reading.only_file(path, [".json"])
    tasks = tables.load_json(path)
    if not isinstance(tasks, list):
        raise UserError(f"{path}: expected a list of tasks, found {type(tasks).__name__}; export it as `JSON`")
    confirmed = any(_given(task, "annotations", f"{path}, task {i + 1}") for i, task in enumerate(tasks))
    found: list[str] = []
    named, predicted = [], 0
    for i, task in enumerate(tasks):
        at = f"{path}, task {i + 1}"
        data = reading.member(task, "data", dict, at)
        image, subject = _find(data, at, context), reading.word(data.get("subject"))
        alone = bool(task.get("predictions")) and not task.get("annotations")
        predicted += alone
        for who, results in _answers(task, "predictions" if alone and not confirmed else "annotations", at):
            points, size = _points(results, at)
            found += points
            named.append(Labelled(image, points, size, subject, context.spacing, who, at))
    reading.say_predicted(path, predicted, confirmed)
    return Labels(context.ordered(found, str(path)), tuple(named))


def _find(data: dict, at: str, context: Context) -> str:
    """The picture of a task, by the end of the path of a URL, or of an uploaded file's name."""
    known = (*pictures.SUFFIXES, ".gif")
    paths = [value for value in data.values() if isinstance(value, str) and value.lower().endswith(known)]
    if len(paths) != 1:
        raise Fault("missing picture", f"{at}: expected one picture in `data`, found {len(paths)}: {paths!r:.100}")
    url = urllib.parse.urlparse(paths[0])
    name = paths[0]
    if local := urllib.parse.parse_qs(url.query).get("d"):
        name = local[0]
    elif len(url.scheme) > 1:
        name = urllib.parse.unquote(url.path)
    uploaded = name.rpartition("/")[2]
    try:
        return context.pictures.find(name, at)
    except Fault:
        if not UPLOADED.match(uploaded):
            raise
        return context.pictures.find(uploaded[9:], at, cut=True)


def _answers(task: dict, key: str, at: str) -> Iterator[tuple[str, list]]:
    """Who said what of a task, under the `key` "annotations" or "predictions"."""
    for answer in _given(task, key, at) or [{"result": []}]:
        who = answer.get("completed_by", answer.get("model_version")) if isinstance(answer, dict) else None
        who = who.get("email") or who.get("id") if isinstance(who, dict) else who
        yield reading.word(who), reading.member(answer, "result", list, at)


def _given(task: object, key: str, at: str) -> list:
    """The annotations or predictions of a task; none that was skipped."""
    given = [] if isinstance(task, dict) and not task.get(key) else reading.member(task, key, list, at)
    return [one for one in given if not (isinstance(one, dict) and one.get("was_cancelled"))]


def _points(results: list, at: str) -> tuple[dict[str, Point], tuple[int, int] | None]:
    points: dict[str, Point] = {}
    size = None
    for i, result in enumerate(results):
        where = f"{at}, result {i + 1}"
        if reading.member(result, "type", str, where) != "keypointlabels":
            continue
        size = reading.size(result, ("original_width", "original_height"), where)
        if result.get("image_rotation"):
            raise Fault(
                "turned picture",
                f"{where}: expected image_rotation 0, found {result['image_rotation']!r:.20}; points of a picture that "
                "was turned in Label Studio are not read: turn its file, and label it again",
            )
        value = reading.member(result, "value", dict, where)
        names = reading.member(value, "keypointlabels", list, where)
        if len(names) != 1 or not isinstance(names[0], str):
            raise Fault("name", f"{where}: expected one name in `keypointlabels`, found {names!r:.80}")
        x, y = (reading.number(value.get(axis), f"{where}, {names[0][:100]}") for axis in "xy")
        score = math.nan if result.get("score") is None else reading.number(result["score"], where)
        point = Point(x / 100 * size[0] - 0.5, y / 100 * size[1] - 0.5, confidence=score)
        reading.add_once(points, names[0], point, where)
    return points, size


def write(labels: Labels) -> dict[str, bytes]:
    """One file, a task for each picture; see `labels.Format`."""
    tasks = []
    predicted = any(not math.isnan(point.confidence) for one in labels.pictures for point in one.points.values())
    for picture in labels.pictures:
        results = [_result(name, picture) for name in labels.names if name in picture.points]
        data = {"image": picture.image} | ({"subject": picture.subject} if picture.subject else {})
        if predicted:
            answer: dict[str, list] = {"predictions": [{"model_version": picture.who, "result": results}]}
        else:
            answer = {"annotations": [_completed_by(picture.who) | {"result": results}]}
        tasks.append({"data": data} | answer)
    return {"": json.dumps(tasks, indent=1).encode()}


def _completed_by(who: str) -> dict[str, object]:
    """Label Studio imports nothing that is by anybody but an e-mail or a number; without, it is by who imports it."""
    if "@" in who:
        return {"completed_by": {"email": who}}
    return {"completed_by": int(who)} if who.isdecimal() else {}


def _result(name: str, picture: Labelled) -> dict:
    width, height = picture.known_size()
    point = picture.points[name]
    x, y = (point.x + 0.5) / width * 100, (point.y + 0.5) / height * 100
    result = {
        "type": "keypointlabels",
        "from_name": "landmarks",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]},
    }
    return result if math.isnan(point.confidence) else result | {"score": point.confidence}
