"""The source task."""

import json

import numpy as np
import pytest
import scipy.stats
import tiny

from configs import source
from ctd_jax import data, recognition, teacher
from ctd_jax.errors import UserError
from ctd_jax.parallel import Parallel


def mann_whitney(features, subjects):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    alike = {True: [], False: []}
    for i in range(len(unit)):
        for j in range(i):
            alike[bool(subjects[i] == subjects[j])].append(unit[i] @ unit[j])
    same, other = alike[True], alike[False]
    return scipy.stats.mannwhitneyu(same, other).statistic / (len(same) * len(other))


def test_verification_auc_matches_scipy():
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(6), 4)
    features = rng.normal(size=(6, 5))[subjects] + rng.normal(size=(24, 5))
    found = recognition.verification_auc(features, subjects)
    assert 0.6 < found < 0.99
    assert found == pytest.approx(mann_whitney(features, subjects), abs=1e-12)


def test_ties_count_half():
    features = np.eye(4)[[0, 0, 1, 1, 0, 2]]  # every likeness is 0 or 1
    subjects = np.array([0, 0, 1, 1, 2, 2])
    assert recognition.verification_auc(features, subjects) == pytest.approx(mann_whitney(features, subjects))
    assert recognition.verification_auc(np.ones((6, 3)), subjects) == 0.5


def make_task(**changes):
    config = tiny.config("none", source, model__encoder="resnet8", data__synthetic__identities=(4, 2, 0), **changes)
    return recognition.RecognitionTask(config, data.load(config.data, None))


def test_a_run_becomes_a_teacher(tmp_path):
    task = make_task(eval__batch_size=3)  # no multiple of the devices
    parallel = Parallel("shard_map")
    variables = task.init(0)
    result = task.finish(parallel.replicate(variables), parallel, tmp_path, 0.0)
    assert result == json.loads((tmp_path / "metrics.json").read_text())
    assert 0 <= result["verification_auc"] <= 1
    assert result["n_images"] == 4
    made = teacher.load(str(tmp_path / "teacher.safetensors"), "auto")
    assert made.encoder == {"name": "resnet8", "num_outputs": 4}
    np.testing.assert_array_equal(
        made.variables["params"]["stem_conv"]["kernel"], variables["params"]["stem_conv"]["kernel"]
    )


@pytest.mark.parametrize("people", [(4, 1, 0), (4, 0, 0)])
def test_val_without_two_people_is_refused(people):
    config = tiny.config("none", source, model__encoder="resnet8", data__synthetic__identities=people)
    with pytest.raises(UserError, match="two people"):
        recognition.RecognitionTask(config, data.load(config.data, None))
