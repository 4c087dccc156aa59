"""Weight files come back, and what cannot be used is refused. Damaged ones: tests/training/test_finite.py."""

import json
import re
import struct

import jax
import numpy as np
import pytest
import safetensors.numpy

from ctd_jax import models
from ctd_jax.errors import UserError


def test_weights_come_back(tmp_path):
    variables = {"params": {"conv": {"kernel": np.arange(6.0).reshape(2, 3).T}}, "batch_stats": {"mean": np.ones(2)}}
    meta = {"encoder": {"name": "resnet8", "width": 8}, "input": {"mean": [0.1, 0.2, 0.3]}, "source": "a test"}
    models.weight_file.save(tmp_path / "w.safetensors", variables, meta)
    got, got_meta = models.weight_file.load(tmp_path / "w.safetensors")
    assert got_meta == meta
    assert got["params"]["conv"]["kernel"].dtype == np.float32
    jax.tree.map(np.testing.assert_array_equal, got, variables)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_weights_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(UserError, match="no such weight file"):
        models.weight_file.load(tmp_path / "absent.safetensors")
    (tmp_path / "text").write_text("not weights at all, but long enough")
    with pytest.raises(UserError, match="not a safetensors file"):
        models.weight_file.load(tmp_path / "text")
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="which encoder"):
        models.weight_file.load(tmp_path / "plain.safetensors")
    for meta in ("[" * 100_000, "9" * 5000, "{"):
        safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "odd.safetensors", {"ctd_jax": meta})
        with pytest.raises(UserError, match="its metadata does not say which encoder"):
            models.weight_file.load(tmp_path / "odd.safetensors")
    safetensors.numpy.save_file({"a": np.zeros(2, np.float16)}, tmp_path / "half.safetensors", {"ctd_jax": "{}"})
    with pytest.raises(UserError, match="its numbers are F16, expected F32"):
        models.weight_file.load(tmp_path / "half.safetensors")
    header = json.dumps(
        {"__metadata__": {"ctd_jax": "{}"}, "a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    )
    (tmp_path / "eighth.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"00")
    with pytest.raises(UserError, match="its numbers are F8_E4M3, expected F32"):  # that NumPy does not have
        models.weight_file.load(tmp_path / "eighth.safetensors")
    with pytest.raises(UserError, match="cannot be written"):
        models.weight_file.save(tmp_path / "absent" / "w.safetensors", {"a": np.zeros(2)}, {})


def test_weights_that_do_not_match():
    have = {"params": {"a": np.zeros(2), "b": np.zeros((3, 4)), "extra": np.zeros(1)}}
    want = {"params": {"a": np.zeros(2), "b": np.zeros((3, 5)), "new": np.zeros(1)}}
    with pytest.raises(UserError) as error:
        models.weight_file.match(have, want, "w.safetensors")
    missing, unexpected = "1 only in the network: params/new", "1 only in the file: params/extra"
    for part in ("w.safetensors", missing, unexpected, r"params/b .*\(3, 4\).*\(3, 5\)"):
        assert re.search(part, str(error.value)), part
    models.weight_file.match(want, want, "w.safetensors")
