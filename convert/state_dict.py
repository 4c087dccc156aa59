"""Reads the arrays of a state dict without running its code: PyTorch's formats, old (before 1.6) and new (zip),
safetensors, and pickled dicts of NumPy arrays, of Python 2 and 3. PyTorch is not needed.

A pickle is a program. It may use only the few names that a plain state dict needs (`ALLOWED`), for which it gets
stand-ins; any other name ends the reading before anything has been called. Layouts: `_legacy_save` and `_save` in
PyTorch's `serialization.py`, `_rebuild_tensor_v2` in its `_utils.py`; `__reduce__` of NumPy's `ndarray` and `dtype`.

A small file may ask for much memory. All arrays together may take four times the file's bytes and `SLACK` more, and a
pickle may have `MAX_OPCODES` steps; both are checked before anything is made.
"""

import collections
import functools
import io
import math
import mmap
import os
import pathlib
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple, cast

import ml_dtypes  # of JAX; NumPy knows bfloat16 by it
import numpy as np
import safetensors
import safetensors.numpy

from ctd_jax.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "<?",
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16).name,
}  # fmt: skip
EXTENSIONS = {"EXT1", "EXT2", "EXT4"}
PREFIXES = ("module.", "backbone.", "encoder.", "model.", "net.", "_orig_mod.")  # of networks inside of others
SLACK = 2**24  # bytes
MAX_OPCODES = 1_000_000  # of a pickle; that of a ResNet-50 has 10,000
REMEDY = (
    "expected a file written by torch.save(model.state_dict(), path) or safetensors, or a pickled dict of NumPy arrays."
)


class Storage(NamedTuple):
    """The block in the file that holds a tensor's numbers: its key, its NumPy type and its length."""

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A view of a storage; it is read after the storages."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class DType:
    """Stands for a pickled `numpy.dtype`: its code, such as "f4", and its byte order."""

    def __init__(self, code: str, *_flags: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class Array:
    """Stands for a pickled `numpy.ndarray`, which is filled after it is made."""

    def __setstate__(self, state: tuple) -> None:
        _version, self.shape, self.dtype, self.is_fortran, self.data = state


def _frombuffer(data: bytes, dtype: DType, shape: tuple, order: str) -> Array:
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


ALLOWED: dict[tuple[str, str], Any] = (
    {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *args: Tensor(*args[:4]),
        ("torch._utils", "_rebuild_parameter"): lambda *args: args[0],
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): DType,
        ("_codecs", "encode"): lambda text, _encoding: text.encode("latin1"),  # bytes, as Python 3 tells Python 2
    }
    | {("torch", name): dtype for name, dtype in STORAGES.items()}
    | {(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: Array() for core in ("core", "_core")}
    | {(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")}
)


class Unpickler(pickle.Unpickler):
    """Unpickles tensors as `Tensor`, noting their storages, and NumPy's arrays as `Array`; refuses all other names."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin1")  # bytes of Python 2
        self.file = file
        self.storages: dict[str, Storage] = {}

    def load(self) -> Any:
        start = self.file.tell()
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(self.file)):
            # Python keeps what an extension's code has stood for, and would give it out without asking `find_class`.
            if opcode.name in EXTENSIONS:
                raise UserError("its pickle asks for something by a number (copyreg); refused, and nothing was run.")
            # Python makes room for as many memories as the largest number says.
            memory = int(argument or 0) if opcode.name.endswith("PUT") else 0
            if max(steps, memory) > MAX_OPCODES:
                raise UserError(f"its pickle has more than {MAX_OPCODES:,} steps or memories; refused. {REMEDY}")
        self.file.seek(start)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UserError(
                f"its pickle asks for {module}.{name}, which is not among the few names that a dict of plain arrays "
                "needs; refused, and nothing was run. If you trust the file, save its state dict alone."
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _device, size, *view = pid
        if kind != "storage" or dtype not in STORAGES.values() or any(view):
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        storage = self.storages[str(key)] = Storage(str(key), dtype, int(size))
        return storage


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The state dict in a file: names and arrays in its order, without an enclosing `state_dict`, and without
    `module.` or the like in front of the names.

    Raises:
      UserError: there is no such file, it has none of the formats, is damaged or no state dict, or its pickle asks for
        more than arrays.
    """
    try:
        if not pathlib.Path(path).is_file():
            raise UserError(f"no such file; {REMEDY}")
        with open(path, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
            if _is_safetensors(file):
                return _named(safetensors.numpy.load_file(path))
            mapped = cast(BinaryIO, file)  # it reads like one
            tree, load_storage = _read_zip(opened) if zipfile.is_zipfile(opened) else _read_pickles(mapped)
            leaves = _leaves(tree)
            _check_room(sum(map(_nbytes, leaves.values())), len(file), "its arrays")
            return {name: _array(leaf, load_storage) for name, leaf in leaves.items()}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {REMEDY}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{path}: not a state dict, or damaged ({error}); {REMEDY}") from error


def _is_safetensors(file: mmap.mmap) -> bool:
    """Whether the file begins with eight bytes, the length of a JSON object, and the object."""
    return file[8:9] == b"{" and int.from_bytes(file[:8], "little") <= len(file) - 8


def _check_room(nbytes: int, size: int, what: str) -> None:
    allowed = 4 * size + SLACK
    if nbytes > allowed:
        raise UserError(
            f"{what} would take {nbytes:,} bytes, and the file has {size:,}; allowed are {allowed:,}. This is no plain "
            f"state dict, so it was not read; {REMEDY}"
        )


def _nbytes(leaf: "Tensor | Array") -> int:
    dtype = leaf.storage.dtype if isinstance(leaf, Tensor) else "u1"  # an array lies in the pickle as it is
    return math.prod(leaf.shape) * np.dtype(dtype).itemsize


def _read_pickles(file: BinaryIO) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """One pickle of NumPy arrays; or PyTorch's format: pickles of a magic number, a version, the system, the tree and
    the storages' keys, and then the storages in this order. The file is mapped, so that no length that it claims can
    read past its end."""
    file.seek(0)
    unpickler = Unpickler(file)
    tree = unpickler.load()
    if not isinstance(tree, int) or tree != LEGACY_MAGIC:
        return tree, lambda storage: np.frombuffer(b"", storage.dtype)  # a tensor here has no numbers
    _version, system = Unpickler(file).load(), Unpickler(file).load()
    if not system["little_endian"]:
        raise UserError("written on a big-endian machine; load and save it again with PyTorch on this one.")
    unpickler = Unpickler(file)
    tree = unpickler.load()
    blocks = {}
    for key in Unpickler(file).load():
        (size,) = struct.unpack("<q", file.read(8))
        nbytes = size * np.dtype(unpickler.storages[key].dtype).itemsize
        blocks[key] = file.read(nbytes)
        if len(blocks[key]) != nbytes:
            raise UserError(f"the file ends too early, in block {key}; fetch it again.")
    return tree, lambda storage: np.frombuffer(blocks[storage.key], storage.dtype)


def _read_zip(file: BinaryIO) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """An archive of `<name>/data.pkl`, the storages in `<name>/data/<key>`, and `<name>/byteorder`."""
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("data.pkl")]
    if len(pickles) != 1 or any(name.endswith("constants.pkl") for name in names):
        raise UserError(f"a zip file, but not one with a state dict; {REMEDY}")
    _check_room(
        sum(part.file_size for part in archive.infolist()), os.fstat(file.fileno()).st_size, "what its zip holds"
    )
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise UserError("written on a big-endian machine; load and save it again with PyTorch on this one.")
    tree = Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
    return tree, functools.lru_cache(1)(
        lambda storage: np.frombuffer(archive.read(f"{folder}data/{storage.key}"), storage.dtype)
    )


def _leaves(tree: Any) -> dict[str, Tensor | Array]:
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(tree, Mapping) and isinstance(tree.get(wrapper), Mapping):
            tree = tree[wrapper]
    if not isinstance(tree, Mapping) or not tree or not all(isinstance(x, Tensor | Array) for x in tree.values()):
        raise UserError(f"it does not hold a dict of arrays; {REMEDY}")
    return _named(tree)


def _named(leaves: Mapping[Any, Any]) -> dict[str, Any]:
    """The leaves without the words of `PREFIXES` that all their names begin with."""
    named = {str(name): leaf for name, leaf in leaves.items()}
    while prefix := next((one for one in PREFIXES if all(name.startswith(one) for name in named)), ""):
        named = {name.removeprefix(prefix): leaf for name, leaf in named.items()}
    return named


def _array(leaf: Tensor | Array, load_storage: Callable[[Storage], np.ndarray]) -> np.ndarray:
    return _of_tensor(leaf, load_storage) if isinstance(leaf, Tensor) else _of_array(leaf)


def _of_tensor(tensor: Tensor, load_storage: Callable[[Storage], np.ndarray]) -> np.ndarray:
    flat = load_storage(tensor.storage)
    strides = [step * flat.itemsize for step in tensor.strides]
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or (math.prod(tensor.shape) > 0 and last >= flat.size):
        raise pickle.UnpicklingError(f"a tensor of shape {tensor.shape} reaches outside its block of {flat.size}")
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).copy()


def _of_array(array: Array) -> np.ndarray:
    dtype = array.dtype.order + array.dtype.code
    if not re.fullmatch("[<>=|][biuf][1248]", dtype):
        raise UserError(f"it holds an array of type {dtype}, which are not numbers; refused, and nothing was run.")
    data = array.data.encode("latin1") if isinstance(array.data, str) else array.data
    flat = np.frombuffer(data, dtype)
    return flat.reshape(array.shape, order="F" if array.is_fortran else "C").copy()
