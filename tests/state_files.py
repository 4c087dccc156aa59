"""Files of state dicts, written by hand: as PyTorch writes them, and as NumPy does under Python 2."""

import io
import pickle
import struct
import zipfile

from convert import state_dict


class Reference:
    """Pickles as a name that is called."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def pickled(value) -> bytes:
    return pickle.dumps(value, protocol=2)


def legacy(tree: bytes, keys=()) -> bytes:
    """A file of PyTorch's old format around a pickled tree; its storages are to follow."""
    system = {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}
    return pickled(state_dict.LEGACY_MAGIC) + pickled(1001) + pickled(system) + tree + pickled(list(keys))


def zipped(tree: bytes, storages=()) -> bytes:
    """A file of PyTorch's new format."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", tree)
        archive.writestr("archive/byteorder", "little")
        for i, storage in enumerate(storages):
            archive.writestr(f"archive/data/{i}", storage)
    return buffer.getvalue()


def torch_legacy(state) -> bytes:
    """`{name: float32 array}` in the old format, one storage per array."""
    blocks = b"".join(struct.pack("<q", x.size) + x.astype("<f4").tobytes() for x in state.values())
    return legacy(tensors(state) + b".", map(str, range(len(state)))) + blocks


def torch_zip(state, wrapper: str = "") -> bytes:
    """The same in the new format; with a wrapper, `{wrapper: state, "epoch": 3}`."""
    tree = tensors(state)
    if wrapper:
        tree = b"\x80\x02}(" + text(wrapper) + tree[2:] + text("epoch") + b"K\x03u"
    return zipped(tree + b".", [x.astype("<f4").tobytes() for x in state.values()])


def tensors(state) -> bytes:
    """Opcodes that make an OrderedDict of tensors."""
    lines = [b"\x80\x02ccollections\nOrderedDict\n)R("]
    for i, (name, value) in enumerate(state.items()):
        kind = b"(" + text("storage") + b"ctorch\nFloatStorage\n"
        storage = kind + text(str(i)) + text("cuda:0") + integer(value.size)
        steps = [step // value.itemsize for step in value.strides]
        shape, strides = (b"(" + b"".join(map(integer, x)) + b"t" for x in (value.shape, steps))
        head = text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        lines.append(head + storage + b"NtQ" + integer(0) + shape + strides + b"\x89}tR")
    return b"".join(lines) + b"u"


def numpy_python2(state) -> bytes:
    """`{name: float32 array}` as Python 2 pickles it with protocol 2: texts and numbers are byte strings."""
    lines = [b"\x80\x02}("]
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNN" + integer(-1) * 2 + b"K\x00tb"
    for name, value in state.items():
        data = value.astype("<f4").tobytes()
        shape = b"(" + b"".join(map(integer, value.shape)) + b"t"
        lines += [
            b"U" + bytes([len(name)]) + name.encode(),
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR",
            b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb",
        ]
    return b"".join(lines) + b"u."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)
