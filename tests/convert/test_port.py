"""The port, its comparison with the original, and the command, with MobileFaceNet; `engines` and `networks` by them."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden.seeded import mobilefacenet_state
from state_files import torch_legacy

from convert import engines, mobilefacenet, port
from ctd_jax import models
from ctd_jax.errors import UserError


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def convert(path, state):
    path.write_bytes(torch_legacy(state))
    return port.convert(path, mobilefacenet.original)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    state = {f"module.{key}": value for key, value in mobilefacenet_state().items()}
    (tmp_path / "face.pt").write_bytes(torch_legacy(state))
    arguments = [str(tmp_path / "face.pt"), f"--out={tmp_path / 'face.safetensors'}"]
    assert port.main(mobilefacenet.original, "A converter.", arguments) == 0
    report = capsys.readouterr().out
    for part in ("difference from the original in ", "embedding ", "1,019,648 numbers", "'channels': 'RGB'"):
        assert part in report
    variables, meta = models.weight_file.load(tmp_path / "face.safetensors")
    assert meta["encoder"] == {"name": "mobilefacenet", "num_outputs": 128}
    assert meta["input"]["mean"] == [0.485, 0.456, 0.406]
    kernel = mobilefacenet_state()["features.5.conv.0.0.weight"]
    np.testing.assert_array_equal(variables["params"]["block5"]["expand_conv"]["kernel"], kernel.transpose(2, 3, 1, 0))


@pytest.mark.slow
def test_the_original_is_computed_in_numpy_where_there_is_no_torch(tmp_path, without_torch):
    *_, engine, differences = convert(tmp_path / "w.pt", mobilefacenet_state())
    assert engine == "NumPy"
    assert list(differences)[0] == "stem"
    assert list(differences)[-1] == "embedding"
    assert 0 < max(differences.values()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("torch", [True, False], ids=["PyTorch", "NumPy"])
def test_a_wrong_port_is_refused(tmp_path, monkeypatch, torch):
    """Two layers of equal shapes change places: only the comparison of numbers can see it."""
    if torch:
        pytest.importorskip("torch")
    else:
        monkeypatch.setitem(sys.modules, "torch", None)
    names, first, second = mobilefacenet.LAYERS, r"block(\d+)/expand_norm", r"block(\d+)/depthwise_norm"
    monkeypatch.setattr(mobilefacenet, "LAYERS", {**names, first: names[second], second: names[first]})
    with pytest.raises(UserError, match="w.pt: the port differs from the original by .* at "):
        convert(tmp_path / "w.pt", mobilefacenet_state())


@pytest.mark.slow
def test_a_file_that_fits_in_part_is_refused(tmp_path):
    state = mobilefacenet_state()
    del state["bn.bias"], state["features.7.conv.1.0.weight"]
    wrong = {"conv3.bias": np.zeros(127), "arcface.weight": np.zeros((2, 128)), "arcface.margin": np.zeros(1)}
    with pytest.raises(UserError) as error:
        convert(tmp_path / "w.pt", state | wrong)
    for part in (
        "w.pt: not the MobileFaceNet of github.com/foamliu/MobileFaceNet, or not the whole of it",
        "though its layers have that network's names. ",
        "2 missing: features.7.conv.1.0.weight, bn.bias",
        "2 unused: arcface.weight, arcface.margin",
        "1 of another shape: conv3.bias (127,)",
    ):
        assert part in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_damaged_numbers_are_refused(value, tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(mobilefacenet_state() | {"conv3.bias": np.full(128, value)}))
    with pytest.raises(UserError, match="differs from the original by (nan|inf).* at embedding.*damaged or too large"):
        port.convert(tmp_path / "w.pkl", mobilefacenet.original)


@pytest.mark.parametrize(
    ("key", "network"),
    [
        ("conv_1_dw.conv.weight", "another version of MobileFaceNet"),
        ("input_layer.0.weight", "an IR-SE face network"),
        ("features.0.0.weight", "a MobileNet of torchvision"),
        ("conv2d_1a.conv.weight", "an Inception-ResNet"),
        ("cls_token", "a network unknown here"),
    ],
)
def test_another_network_is_named(key, network, tmp_path):
    with pytest.raises(UserError, match=f"w.pt: not the MobileFaceNet.* seems to be {network}.* 1 unused: {key}"):
        convert(tmp_path / "w.pt", {key: np.zeros((2, 3))})


COMMANDS = """
import runpy, sys
file, out, *names = sys.argv[1:]
for name in names:
    sys.argv = [name, file, out]
    try:
        runpy.run_module(f"convert.{name}", run_name="__main__")
    except SystemExit as end:
        print(name, end.code)
"""


@pytest.mark.slow
def test_every_command_ends_with_one_message_and_code_2(tmp_path):
    names = ["efficientnet_lite", "mobilefacenet", "torchvision", "vggface2"]
    command = [sys.executable, "-c", COMMANDS, "absent.pt", f"--out={tmp_path / 'w.safetensors'}", *names]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.stdout.splitlines() == [f"{name} 2" for name in names], run.stderr
    messages = run.stderr.splitlines()
    assert len(messages) == len(names) and all("absent.pt: no such file" in message for message in messages)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["NumPy", "PyTorch"])
def test_the_operations_of_an_engine(engine):
    """Hand calculations; the picture is 0, 1, 2, ... in rows of four."""
    if engine == "PyTorch":
        pytest.importorskip("torch")
    ones = {"full.weight": np.ones((1, 2, 3, 3)), "each.weight": np.ones((2, 1, 1, 1)), "each.bias": np.array([0.5, 1])}
    norm = {"norm.weight": [2.0], "norm.bias": [1.0], "norm.running_mean": [3.0], "norm.running_var": [4 - 1e-5]}
    state = (
        ones | {key: np.array(value) for key, value in norm.items()} | {"fc.weight": np.array([[[[1.0]], [[-2.0]]]])}
    )
    net = getattr(engines, engine)(state | {"fc.bias": np.array([10.0])})
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    two = net.array(np.concatenate([x, 10 * x], 1))
    np.testing.assert_allclose(net.conv(two, "full", 2, 1), [[[[11 * 10, 11 * 24], [11 * 51, 11 * 90]]]])
    np.testing.assert_allclose(net.conv(two, "each")[0, :, 0, :2], [[0.5, 1.5], [1, 11]])
    np.testing.assert_allclose(net.norm(net.array(x), "norm")[0, 0, 1], [2, 3, 4, 5])
    np.testing.assert_allclose(net.norm(net.array(x), "norm", epsilon=12 + 1e-5)[0, 0, 0, 3], 1)
    np.testing.assert_allclose(net.norm(net.array(x), "norm", epsilon=12 + 1e-5)[0, 0, 0, 1], 0)
    np.testing.assert_allclose(net.pad(net.array(x), 1, 2)[0, 0, :3, :3], [[0, 0, 0], [0, 0, 1], [0, 4, 5]])
    assert net.pad(net.array(x), 1, 2).shape == (1, 1, 7, 7)
    np.testing.assert_allclose(net.linear(net.array([[3.0, 1]]), "fc"), [[11]])
    np.testing.assert_allclose(net.max_pool(net.array(-x), 1, False), [[[[0, -1], [-4, -5]]]])
    np.testing.assert_allclose(net.max_pool(net.array(-x), 0, True), [[[[0, -2], [-8, -10]]]])
    np.testing.assert_allclose(net.max_pool(net.array(x[..., :3, :3]), 0, True), [[[[10]]]])
