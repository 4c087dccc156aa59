"""PyTorch files without PyTorch: two formats, damaged and hostile ones, and the port of MobileFaceNet."""

import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from golden.seeded import mobilefacenet_state

from convert import mobilefacenet, torch_file
from ctd_jax import models
from ctd_jax.errors import UserError

GOLDEN = Path(__file__).parent / "golden"


class Reference:
    """Pickles as a storage's persistent id, or as a name that is called."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def pickled(value) -> bytes:
    return pickle.dumps(value, protocol=2)


def legacy(tree: bytes) -> bytes:
    """A file of the old format around a pickled tree without storages."""
    system = {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}
    return pickled(torch_file.LEGACY_MAGIC) + pickled(1001) + pickled(system) + tree + pickled([])


def zipped(tree: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", tree)
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def write_state(path, state):
    """Writes `{name: float32 array}` in the old format, by hand: one storage per array."""
    lines = [b"\x80\x02ccollections\nOrderedDict\n)R("]
    for i, (name, value) in enumerate(state.items()):
        storage = (
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + text(str(i)) + text("cuda:0") + integer(value.size)
        )
        shape, strides = (b"(" + b"".join(map(integer, x)) + b"t" for x in (value.shape, steps(value)))
        head = text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        lines.append(head + storage + b"NtQ" + integer(0) + shape + strides + b"\x89}tR")
    tree = b"".join(lines) + b"u."
    blocks = b"".join(struct.pack("<q", x.size) + x.astype("<f4").tobytes() for x in state.values())
    keys = pickled([str(i) for i in range(len(state))])
    path.write_bytes(legacy(tree).removesuffix(pickled([])) + keys + blocks)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def steps(value):
    return [step // value.itemsize for step in value.strides]


@pytest.mark.parametrize("name", ["legacy.pt", "zip.pt", "wrapped_legacy.pt", "wrapped_zip.pt"])
def test_files_written_by_pytorch(name):
    """What `golden/make.py` saved, from arange(24): views, a scalar, half precision, a parameter."""
    state = torch_file.read(GOLDEN / name)
    numbers = np.arange(24, dtype=np.float32)
    want = {
        "plain": numbers.reshape(2, 3, 4),
        "turned": numbers.reshape(4, 6).T,
        "part": np.float32([5, 6, 7, 8]),
        "half": np.float16([0, 0.125, 0.25, 0.375]),
        "count": np.int64(7),
        "parameter": np.float32([0, 2, 4]),
    }
    assert list(state) == list(want)
    for key, value in want.items():
        np.testing.assert_array_equal(state[key], value)
        assert state[key].dtype == value.dtype


CALLS = {
    "os.system": lambda command: Reference(os.system, command),
    "builtins.eval": lambda command: Reference(eval, f"__import__('os').system({command!r})"),
    "subprocess.Popen": lambda command: Reference(subprocess.Popen, ["sh", "-c", command]),
    "nested": lambda command: collections.OrderedDict(a={"b": [(1, Reference(os.system, command))]}),
    "as state": lambda command: Reference(collections.OrderedDict, [("a", Reference(os.system, command))]),
}


def payloads(command):
    trees = {
        f"{name}, protocol {protocol}": pickle.dumps(make(command), protocol)
        for name, make in CALLS.items()
        for protocol in (0, 2, 4)
    }
    line = command.encode()
    trees["INST"] = b"(S'" + line + b"'\nios\nsystem\n."
    trees["OBJ"] = b"(cos\nsystem\nS'" + line + b"'\no."
    trees["BUILD of a class"] = b"ccollections\nOrderedDict\n}S'__reduce__'\ncos\nsystem\nsb."
    trees["dotted name"] = b"\x80\x04\x8c\x0bcollections\x8c\x12abc.sys.modules.os\x93."
    return trees


@pytest.mark.parametrize("wrap", [bytes, legacy, zipped], ids=["bare", "legacy", "zip"])
def test_code_in_a_pickle_is_refused_and_not_run(wrap, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "hostile.pt"
    trees = payloads(f"touch {marker}")
    assert len(trees) == 19
    for name, tree in trees.items():
        path.write_bytes(wrap(tree))
        with pytest.raises(UserError, match=r"hostile.pt: .*refused, and nothing was run") as error:
            torch_file.read(path)
        assert not marker.exists(), name
        assert any(word in str(error.value) for word in ("system", "eval", "Popen", "modules")), name


def test_the_hostile_pickles_would_run(tmp_path):
    """The proof above is worth something: Python's own loader does run them."""
    marker = tmp_path / "ran"
    pickle.loads(payloads(f"touch {marker}")["nested, protocol 2"])
    assert marker.exists()


def test_a_whole_module_is_refused():
    with pytest.raises(UserError, match=r"module.pt: .*torch.nn.modules.linear.Linear.*save its state dict"):
        torch_file.read(GOLDEN / "module.pt")


@pytest.mark.parametrize("name", ["legacy.pt", "zip.pt"])
def test_a_truncated_file_is_refused_at_any_length(name, tmp_path):
    whole = (GOLDEN / name).read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(UserError, match=f"{name}: .*(damaged|too early|not a PyTorch file)"):
            torch_file.read(tmp_path / name)


def test_the_last_number_missing(tmp_path):
    (tmp_path / "w.pt").write_bytes((GOLDEN / "legacy.pt").read_bytes()[:-4])
    with pytest.raises(UserError, match="w.pt: the file ends too early, in block .*fetch it again"):
        torch_file.read(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n and so on", "not a PyTorch file"),
        (b"some words", "not a PyTorch file"),
        (pickled({"a": 1}), "not a PyTorch file"),
        (legacy(pickled({"epoch": 3})), "does not hold a dict of tensors"),
        (legacy(pickled([1, 2])), "does not hold a dict of tensors"),
        (zipped(pickled({})), "does not hold a dict of tensors"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(UserError, match=f"other: .*{message}"):
        torch_file.read(tmp_path / "other")


def test_a_tensor_cannot_reach_outside_its_storage(tmp_path):
    path = tmp_path / "w.pt"
    value = np.zeros((3, 4), np.float32)
    write_state(path, {"a": value})
    np.testing.assert_array_equal(torch_file.read(path)["a"], value)
    for harmless, hostile in ((integer(3), integer(4)), (integer(0), integer(1)), (integer(4), integer(-4))):
        write_state(path, {"a": value})
        path.write_bytes(path.read_bytes().replace(harmless, hostile, 1))
        with pytest.raises(UserError, match="outside its block"):
            torch_file.read(path)


def test_the_port_of_mobilefacenet_is_checked_and_loads_again(tmp_path, capsys):
    state = {f"module.{key}": value for key, value in mobilefacenet_state().items()}
    write_state(tmp_path / "face.pt", state)
    assert mobilefacenet.main([str(tmp_path / "face.pt"), f"--out={tmp_path / 'face.safetensors'}"]) == 0
    report = capsys.readouterr().out
    assert "1,019,648 numbers" in report
    assert "embedding" in report
    variables, meta = models.weights.load(tmp_path / "face.safetensors")
    net = models.build_encoder(**meta["encoder"])
    image = np.zeros((1, 112, 112, 3), np.float32)
    template = jax.eval_shape(lambda: net.init(jax.random.key(0), image, train=False))
    models.weights.match(variables, template, "face.safetensors")
    assert meta["input"] == mobilefacenet.INPUT


def test_a_wrong_port_is_refused(tmp_path, monkeypatch):
    """Two layers of equal shapes change places: only the comparison of numbers can see it."""
    write_state(tmp_path / "face.pt", mobilefacenet_state())
    first, second = r"features\.(\d+)\.conv\.0\.1", r"features\.(\d+)\.conv\.1\.1"
    names = mobilefacenet.LAYERS
    monkeypatch.setattr(mobilefacenet, "LAYERS", {**names, first: names[second], second: names[first]})
    with pytest.raises(UserError, match="differs from the original by .* at "):
        mobilefacenet.convert(tmp_path / "face.pt")


def test_other_networks_are_named(tmp_path):
    path = tmp_path / "other.pt"
    write_state(path, {"layer1.0.conv1.weight": np.zeros((4, 4, 3, 3)), "fc.weight": np.zeros((2, 4))})
    with pytest.raises(
        UserError, match=r"not the MobileFaceNet.*seems to be a ResNet.*2 of its 2.*layer1.0.conv1.weight"
    ):
        mobilefacenet.convert(path)
    state = mobilefacenet_state()
    write_state(path, {key: value for key, value in state.items() if not key.startswith("gdconv")})
    with pytest.raises(UserError, match="5 only in the network: .*params/embedding_depthwise"):
        mobilefacenet.convert(path)
    write_state(path, {**state, "conv3.bias": np.full(128, np.nan, np.float32)})
    with pytest.raises(UserError, match="differs from the original by nan at embedding"):
        mobilefacenet.convert(path)


def test_the_command_ends_with_one_message_and_code_2(tmp_path):
    command = [sys.executable, "-m", "convert.mobilefacenet", "absent.pt", f"--out={tmp_path / 'w.safetensors'}"]
    run = subprocess.run(command, cwd=GOLDEN.parents[1], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "absent.pt: No such file" in run.stderr
    assert not list(tmp_path.iterdir())
