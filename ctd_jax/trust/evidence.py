"""What val showed of a run's network, in `trust.safetensors` of its workdir: with it, radii and scores of new pictures
are made.

The file belongs to the weights whose digest it has; of other weights it is never used. Its tensors are named DOMAIN/...
(nothing before the stroke, where there is one kind of pictures), its metadata is JSON.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from ctd_jax import files
from ctd_jax.trust.radius import Radius
from ctd_jax.trust.unlike import Unlike

FILE = "trust.safetensors"
ARRAYS = ("mean", "basis", "inverse")  # of `Unlike`


@dataclasses.dataclass(frozen=True)
class Evidence:
    """N pictures of val as one network sees them, or several on average. Lengths are parts of the side of the square
    that the network sees, so that they hold for pictures of any size.

    Attributes:
      images, subjects: `[N]` names; each picture without a subject is one by itself.
      landmarks: K names; none: the network finds none.
      offset: `[N, K, 2]` predicted less annotated point, NaN where not annotated.
      doubts: name -> `[N, K]`, see `radius`.
      mirrored: whether mirror images are averaged.
      unlike: the scores of the networks; where one has none, there is none.
      temperature: of the first network's logits of presence, see `temperature`; None: it has none, or val can't tell.
    """

    images: np.ndarray
    subjects: np.ndarray
    landmarks: tuple[str, ...]
    offset: np.ndarray
    doubts: Mapping[str, np.ndarray]
    mirrored: bool
    unlike: tuple[Unlike, ...] = ()
    temperature: float | None = None

    @functools.cached_property
    def radius(self) -> Radius:
        """The radii that follow."""
        return Radius.fit(np.linalg.norm(self.offset, axis=-1), self.doubts, self.subjects)


def average(
    doubts: Sequence[Mapping[str, np.ndarray]], points: Sequence[np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The doubts of several networks' average, and its points.

    Args:
      doubts: of each network, name -> `[N, K]`.
      points: of each, `[N, K, 2]` from any origin, as parts of the side.
    """
    common = [name for name in doubts[0] if all(name in one for one in doubts)]
    mean: Any = sum(points) / len(points)
    found = {name: np.mean([one[name] for one in doubts], axis=0) for name in common}
    if len(points) > 1:
        found["networks"] = np.sqrt(np.mean([((one - mean) ** 2).sum(axis=-1) for one in points], axis=0))
    return found, mean


def calibrated(each: Sequence[Evidence]) -> Evidence | None:
    """The evidence of the average of several networks; None: they have other pictures in val, so that some may have
    been trained on what others are judged by, or some of them average mirror images, and others don't."""
    first = each[0]
    if any(not np.array_equal(one.images, first.images) or one.mirrored != first.mirrored for one in each[1:]):
        return None
    doubts, offset = average([one.doubts for one in each], [one.offset for one in each])
    unlike = tuple(score for one in each for score in one.unlike) if all(one.unlike for one in each) else ()
    return dataclasses.replace(first, offset=offset, doubts=doubts, unlike=unlike)


def write(workdir: pathlib.Path, digest: str, step: int, of_domain: Mapping[str, Evidence]) -> None:
    """Writes the file.

    Args:
      workdir: of the run.
      digest: of its network's variables, see `checkpoint.digest`.
      step: of the checkpoint that has them.
      of_domain: domain -> evidence; "": the run has one kind of pictures.
    """
    tensors: dict[str, np.ndarray] = {}
    about: dict[str, dict[str, Any]] = {}
    for domain, one in of_domain.items():
        tensors |= {f"{domain}/{name}": values.astype(np.float16) for name, values in one.doubts.items()}
        tensors[f"{domain}/offset"] = one.offset.astype(np.float16)
        about[domain] = {
            "images": one.images.tolist(), "subjects": one.subjects.tolist(), "landmarks": one.landmarks,
            "doubts": list(one.doubts), "mirrored": one.mirrored, "temperature": one.temperature,
        }  # fmt: skip
        for score in one.unlike:
            tensors |= {f"{domain}/unlike_{name}": getattr(score, name).astype(np.float32) for name in ARRAYS}
            about[domain]["unlike"] = {name: getattr(score, name) for name in ("rest", "threshold", "n_subjects")}
    metadata = {"digest": digest, "step": str(step), "domains": json.dumps(about)}
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    files.write_bytes(workdir / FILE, safetensors.numpy.save(tensors, metadata=metadata))


def read(workdir: pathlib.Path, digest: str, domain: str | None) -> tuple[Evidence | None, str]:
    """The evidence of a run's network; None and a sentence that says why there is none.

    Args:
      workdir: of the run.
      digest: of its network's variables.
      domain: of the pictures; None: the run has one kind.
    """
    path, key = workdir / FILE, domain or ""
    again = "evaluate it again: remove report.html from there, and start its command once more"
    if not path.is_file():
        return None, f"{workdir} has no {FILE} (an older version evaluated it, or it is not finished); {again}"
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata["digest"] != digest:
                return None, f"{path} is of step {metadata['step']}, and not of the weights that are used; {again}"
            about = json.loads(metadata["domains"])
            if key not in about:
                return None, f"{path} knows nothing of {domain}, which was not evaluated"
            return _evidence(about[key], lambda name: file.get_tensor(f"{key}/{name}").astype(np.float64)), ""
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        return None, f"{path} is damaged ({type(error).__name__}); {again}"


def _evidence(about: Mapping[str, Any], tensor: Any) -> Evidence:
    scores: tuple[Unlike, ...] = ()
    if "unlike" in about:
        scores = (Unlike(*(tensor(f"unlike_{name}") for name in ARRAYS), **about["unlike"]),)
    return Evidence(
        np.array(about["images"], dtype=str), np.array(about["subjects"], dtype=str), tuple(about["landmarks"]),
        tensor("offset"), {name: tensor(name) for name in about["doubts"]}, bool(about["mirrored"]), scores,
        about.get("temperature"),
    )  # fmt: skip
