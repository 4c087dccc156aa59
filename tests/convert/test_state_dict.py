"""State dicts without PyTorch: its two formats, NumPy's pickles of Python 2 and 3, damaged and hostile files."""

import collections
import contextlib
import copyreg
import io
import os
import pickle
import struct
import subprocess
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import state_files
from state_files import Reference, integer, legacy, pickled, text, zipped

from convert import state_dict
from ctd_jax.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"


def read(path, content):
    path.write_bytes(content)
    return state_dict.read(path)


def assert_equal(state, want):
    assert list(state) == list(want)
    for key, value in want.items():
        np.testing.assert_array_equal(state[key], value, strict=True)


@pytest.mark.parametrize("name", ["legacy.pt", "zip.pt", "wrapped_legacy.pt", "wrapped_zip.pt"])
def test_files_written_by_pytorch(name):
    """What `golden/make.py` saved, from arange(24): views, a scalar, half precision, a parameter."""
    numbers = np.arange(24, dtype=np.float32)
    want = {
        "plain": numbers.reshape(2, 3, 4),
        "turned": numbers.reshape(4, 6).T,
        "part": np.float32([5, 6, 7, 8]),
        "half": np.float16([0, 0.125, 0.25, 0.375]),
        "count": np.array(7),
        "parameter": np.float32([0, 2, 4]),
    }
    assert_equal(state_dict.read(GOLDEN / name), want)


def test_bfloat16_of_pytorch(tmp_path):
    state = {"a.weight": np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3) / 4}
    tree = state_files.tensors(state).replace(b"torch\nFloatStorage", b"torch\nBFloat16Storage")
    assert_equal(read(tmp_path / "w.pt", zipped(tree + b".", [state["a.weight"].tobytes()])), state)


ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "a.strided": np.arange(20, dtype=np.float32).reshape(4, 5)[::2, ::-2],
    "a.high": np.arange(128, 256, dtype=np.uint8),  # not ASCII
    "a.big_endian": np.arange(3, dtype=">f8"),
    "a.half": np.float16([0.5, -1]),
    "a.count": np.array(7),
    "a.flag": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_pickles_of_python_3(protocol, tmp_path):
    content = pickle.dumps(ARRAYS, protocol)
    assert_equal(read(tmp_path / "w.pkl", content), ARRAYS)
    if protocol < 4:  # later ones say how long a name is
        older = content.replace(b"numpy._core", b"numpy.core")
        assert older != content
        assert_equal(read(tmp_path / "w.pkl", older), ARRAYS)


def test_numpy_pickles_of_python_2(tmp_path):
    state = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "a.bias": np.float32([1.5, -2])}
    content = state_files.numpy_python2(state)
    assert_equal(pickle.loads(content, encoding="latin1"), state)  # it is what Python takes it for
    assert_equal(read(tmp_path / "w.pkl", content), state)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_wrappers_and_the_prefixes_of_data_parallel_and_compile_are_taken_off(wrapper, tmp_path):
    state = {"a.weight": np.float32([[1, 2], [3, 4]]), "a.bias": np.float32([5])}
    parallel = {f"module._orig_mod.{key}": value for key, value in state.items()}
    assert_equal(read(tmp_path / "w.pt", state_files.torch_zip(parallel, wrapper)), state)
    assert_equal(read(tmp_path / "w.pkl", pickled({wrapper: parallel, "epoch": 3})), state)


CALLS = {
    "os.system": lambda command: Reference(os.system, command),
    "builtins.eval": lambda command: Reference(eval, f"__import__('os').system({command!r})"),
    "subprocess.call": lambda command: Reference(subprocess.call, ["sh", "-c", command]),
    "nested": lambda command: collections.OrderedDict(a={"b": [(1, Reference(os.system, command))]}),
    "as state": lambda command: Reference(collections.OrderedDict, [("a", Reference(os.system, command))]),
    "in an array": lambda command: {"a": np.array([Reference(os.system, command)], object)},
}


def payloads(command):
    trees = {
        f"{name}, protocol {protocol}": pickle.dumps(make(command), protocol)
        for name, make in CALLS.items()
        for protocol in (0, 2, 4, 5)
    }
    line = command.encode()
    argument = b"S'" + line + b"'\n"
    trees["INST"] = b"(" + argument + b"ios\nsystem\n."
    trees["OBJ"] = b"(cos\nsystem\n" + argument + b"o."
    trees["STACK_GLOBAL"] = b"\x80\x04\x8c\x02os\x8c\x06system\x93" + argument + b"\x85R."
    trees["array"] = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(cos\nsystem\n" + argument + b"\x85RtS'b'\ntR."
    )
    ordered = b"ccollections\nOrderedDict\n)R"
    trees["BUILD"] = ordered + b"}S'__setstate__'\ncos\nsystem\nsb" + argument + b"b."
    return trees


@pytest.mark.parametrize("wrap", [bytes, legacy, zipped], ids=["bare", "legacy", "zip"])
def test_code_in_a_pickle_is_refused_and_not_run(wrap, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "hostile.pt"
    trees = payloads(f"touch {marker}")
    assert len(trees) == 29
    for name, tree in trees.items():
        with pytest.raises(UserError, match=r"hostile.pt: .*refused, and nothing was run") as error:
            read(path, wrap(tree))
        assert not marker.exists(), name
        assert any(word in str(error.value) for word in ("system", "eval", "call")), name


def test_the_hostile_pickles_would_run(tmp_path):
    """The proof above is worth something: Python's own loader does run them."""
    marker = tmp_path / "ran"
    for name, tree in payloads(f"touch {marker}").items():
        with contextlib.suppress(TypeError):  # of what came back from the call
            pickle.loads(tree)
        assert marker.exists(), name
        marker.unlink()


def test_a_name_that_python_keeps_by_number_is_refused(tmp_path):
    """Once used, such a name is given out without asking whether it is allowed."""
    marker = tmp_path / "ran"
    hostile = b"\x80\x02\x82\xf1" + text(f"touch {marker}") + b"\x85R."
    copyreg.add_extension("os", "system", 0xF1)
    try:
        pickle.loads(hostile)
        assert marker.exists()
        marker.unlink()
        with pytest.raises(UserError, match=r"w.pkl: .*copyreg.*refused, and nothing was run"):
            read(tmp_path / "w.pkl", hostile)
        assert not marker.exists()
    finally:
        copyreg.remove_extension("os", "system", 0xF1)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize(
    "array", [np.array([1, "a"], object), np.array(["text"]), np.zeros(2, [("x", "f4")]), np.zeros(2, complex)]
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_other_things_than_numbers_are_refused(array, protocol, tmp_path):
    content = pickle.dumps({"a": array}, protocol)
    with pytest.raises(UserError, match=f"w.pkl: .*type .*{array.dtype.str[1:]}.*not numbers; refused"):
        read(tmp_path / "w.pkl", content)


def test_a_whole_module_is_refused():
    with pytest.raises(UserError, match=r"module.pt: .*torch.nn.modules.linear.Linear.*save its state dict"):
        state_dict.read(GOLDEN / "module.pt")


@pytest.mark.parametrize(
    "content",
    [(GOLDEN / "legacy.pt").read_bytes(), (GOLDEN / "zip.pt").read_bytes(), pickled(ARRAYS), pickle.dumps(ARRAYS, 5)],
    ids=["legacy", "zip", "NumPy, protocol 2", "NumPy, protocol 5"],
)
def test_a_truncated_file_is_refused_at_any_length(content, tmp_path):
    for length in range(0, len(content), 37):
        with pytest.raises(UserError, match="w.pt: .*(damaged|too early)"):
            read(tmp_path / "w.pt", content[:length])


def test_the_last_number_missing(tmp_path):
    with pytest.raises(UserError, match="w.pt: the file ends too early, in block .*fetch it again"):
        read(tmp_path / "w.pt", (GOLDEN / "legacy.pt").read_bytes()[:-4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n and so on", "not a state dict, or damaged"),
        (b"some words", "not a state dict, or damaged"),
        (pickled({"a": 1}), "does not hold a dict of arrays"),
        (pickled(np.zeros(3)), "does not hold a dict of arrays"),
        (legacy(pickled({"epoch": 3})), "does not hold a dict of arrays"),
        (legacy(pickled([1, 2])), "does not hold a dict of arrays"),
        (zipped(pickled({})), "does not hold a dict of arrays"),
        (zipped(pickled({"model": 1})), "does not hold a dict of arrays"),
        (state_files.tensors({"a": np.zeros(2)}) + b".", "reaches outside its block"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    with pytest.raises(UserError, match=f"other: .*{message}"):
        read(tmp_path / "other", content)


def test_a_tensor_cannot_reach_outside_its_storage(tmp_path):
    state = {"a": np.zeros((3, 4), np.float32)}
    content = state_files.torch_legacy(state)
    assert_equal(read(tmp_path / "w.pt", content), state)
    for harmless, hostile in ((integer(3), integer(4)), (integer(0), integer(1)), (integer(4), integer(-4))):
        with pytest.raises(UserError, match="outside its block"):
            read(tmp_path / "w.pt", content.replace(harmless, hostile, 1))


def test_an_array_cannot_be_larger_than_its_numbers(tmp_path):
    content = state_files.numpy_python2({"a": np.zeros((3, 4), np.float32)})
    for harmless, hostile in ((integer(3), integer(2**30)), (b"U\x02f4", b"U\x02f8")):
        with pytest.raises(UserError, match="damaged|would take 4,294,967,296 bytes"):
            read(tmp_path / "w.pkl", content.replace(harmless, hostile, 1))


# ---------------------------------------------------------------- safetensors, and what would take much memory


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.encoder."])
def test_safetensors(prefix, tmp_path):
    state = {"b.weight": np.float32([[1, 2], [3, 4]]), "a.bias": np.float16([5]), "n": np.array([7])}
    content = safetensors.numpy.save({f"{prefix}{key}": value for key, value in state.items()})
    found = read(tmp_path / "w.safetensors", content)
    assert found.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(found[key], value, strict=True)
    with pytest.raises(UserError, match="w.safetensors: not a state dict, or damaged"):
        read(tmp_path / "w.safetensors", content[:-1])


def compressed(state, numbers):
    """The zip format, compressed, whose one storage holds `numbers` zeros."""
    tree = state_files.tensors(state) + b"."
    tree = tree.replace(integer(state["a"].size), integer(numbers), 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tree)
        archive.writestr("archive/data/0", bytes(4 * numbers))
    return buffer.getvalue()


def measured(path):
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as told:
            state_dict.read(path)
        return str(told.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HUGE = 10**7  # numbers; 40 MB, of a file of 40 KB
BIG = {
    "zip": lambda: (compressed({"a": np.zeros(7, np.float32)}, HUGE), "what its zip holds would take 40,0"),
    "one number, seen ten million times": lambda: (
        zipped(state_files.tensors({"a": np.zeros(7, np.float32)}).replace(integer(7), integer(HUGE)).replace(
            integer(1) + b"\x85", integer(0) + b"\x85") + b".", [bytes(28)]), "its arrays would take 40,000,000 bytes"),
    "memory": lambda: (b"\x80\x02}r\xff\xff\xff\x7f.", "more than 1,000,000 steps or memories"),
    "steps": lambda: (b"\x80\x02" + b"N0" * 600_000 + b"}.", "more than 1,000,000 steps or memories"),
    "a long name": lambda: (b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"a.", "damaged"),
    "a long block": lambda: (
        state_files.torch_legacy({"a": np.zeros(7, np.float32)}).replace(
            struct.pack("<q", 7) + bytes(28), struct.pack("<q", 2**40)), "the file ends too early"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BIG)
def test_a_small_file_cannot_take_much_memory(name, tmp_path):
    content, message = BIG[name]()
    (tmp_path / "w.pt").write_bytes(content)
    told, most = measured(tmp_path / "w.pt")
    assert message in told
    assert most < 2**23 + 4 * len(content)
