"""The source task: who is who. Makes a teacher out of any pictures with subjects."""

import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import data, models
from ctd_jax import workdir as workdirs
from ctd_jax.errors import UserError
from ctd_jax.parallel import AXIS, Parallel
from ctd_jax.teacher import IMAGENET


def verification_auc(features: np.ndarray, subjects: np.ndarray) -> float:
    """Area under the ROC curve of "same person" by the cosine of two pictures' features, over all pairs.

    It is the probability that a pair of one person is more alike than a pair of two, ties counting half (Mann and
    Whitney 1947).

    Args:
      features: `[N, C]`.
      subjects: `[N]`.
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    pairs = np.triu_indices(len(unit), 1)
    alike = (unit @ unit.T)[pairs]
    same = np.asarray(subjects)[pairs[0]] == np.asarray(subjects)[pairs[1]]
    _, inverse, counts = np.unique(alike, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = same.sum()
    return float((rank[same].sum() - n * (n + 1) / 2) / (n * (len(same) - n)))


class RecognitionTask:
    """An encoder with a classifier over the training subjects, validated on people it has never seen."""

    terms = ("cross_entropy",)
    last_file = "metrics.json"  # once it is there, the run is finished
    frozen = ()

    def __init__(self, config: ConfigDict, source: data.Source):
        self.config, self.source = config, source
        self.train, self._val = source.split("train"), source.split("val")
        if len(set(self._val.subjects)) in (1, len(self._val)):
            raise UserError("recognition needs two people in val, and two pictures of one of them, to say who is alike")
        self.encoder = {"name": config.model.encoder, "num_outputs": len(set(self.train.subjects))}
        self.model = models.build_encoder(**self.encoder, dtype=models.activation_dtype(config.dtype), axis_name=AXIS)

    def init(self, seed: int) -> Any:
        """Random variables."""
        size = self.config.data.image_size
        return jax.jit(functools.partial(self.model.init, train=False))(
            jax.random.key(seed), jnp.zeros((1, size, size, 3))
        )

    @staticmethod
    def labels(params: Any) -> Any:
        """Which learning rate each parameter has."""
        return jax.tree.map(lambda _: "encoder", params)

    def loss(self, params: Any, batch_stats: Any, frozen: Any, batch: dict[str, Array], keys: Array):
        """Cross-entropy over the training subjects. See `step.Loss`."""
        move = functools.partial(data.augment, **self.config.augment, flip_order=self.source.landmarks.flip_order)
        picture, _ = jax.vmap(move)(keys, batch["picture"].astype(jnp.float32), batch["xy"])
        out, updates = self.model.apply(
            {"params": params, "batch_stats": batch_stats},
            models.normalize(picture, IMAGENET),
            train=True,
            mutable=["batch_stats"],
        )
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(out["classifier"], batch["subject"])
        return loss, (updates["batch_stats"], {"cross_entropy": loss})

    def validator(self, parallel: Parallel) -> Callable[[Any], tuple[float, str]]:
        """Function of variables on the devices: 1 - verification AUC on the people of val, and as text."""

        def body(variables: Any, batch: dict[str, Array]) -> Array:
            out = self.model.apply(variables, models.normalize(batch["picture"], IMAGENET), train=False)
            return jnp.mean(out["encoder"].astype(jnp.float32), axis=(1, 2))

        compiled = parallel.compile(body, sharded=True)
        devices = len(parallel.devices)
        size = -(-self.config.eval.batch_size // devices) * devices

        def validate(variables: Any) -> tuple[float, str]:
            features = []
            for start in range(0, len(self._val), size):
                picture = self._val.batch(np.arange(start, min(start + size, len(self._val))))["picture"]
                filled = np.pad(picture, ((0, size - len(picture)), (0, 0), (0, 0), (0, 0)))
                features.append(
                    parallel.gather(compiled(variables, parallel.shard({"picture": filled})))[: len(picture)]
                )
            auc = verification_auc(np.concatenate(features), np.array(self._val.subjects))
            return 1 - auc, f"verification AUC {auc:.3f}"

        return validate

    @property
    def meta(self) -> dict[str, Any]:
        """What a weight file says of itself."""
        source = f"recognition of {self.encoder['num_outputs']} people, {self.config.data.root}"
        return {"encoder": self.encoder, "input": IMAGENET, "source": source}

    def finish(self, variables: Any, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Writes teacher.safetensors and metrics.json; returns what the latter holds."""
        error, _ = self.validator(parallel)(variables)
        weights = parallel.first(variables)
        models.weights.save(workdir / "teacher.safetensors", weights, self.meta)
        result = {
            "split": "val",
            "n_images": len(self._val),
            "verification_auc": 1 - error,
            "n_params": sum(x.size for x in jax.tree.leaves(weights["params"])),
            "config_hash": workdirs.config_hash(self.config),
            "seconds": round(time.monotonic() - began, 1),
        }
        workdirs.write_text(workdir / "metrics.json", json.dumps(result, indent=1))
        return result
