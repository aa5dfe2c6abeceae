"""Files of torch, without torch: whether one loads safely, and the model's weights out of it.

A file that `torch.save` writes is a zip file with one pickle, `data.pkl`, and one member per
tensor's memory, `data/KEY`.
"""

import contextlib
import itertools
import re
import struct
import zipfile
from functools import partial
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, NamedTuple, Set, cast

from .careful import ZIP_FAULTS, careful
from .pickles import BadPickle, Call, Global, Persistent, read, write
from .work import BLOCK
from .writer import Sink

#: The longest pickle that is read; it has some hundred bytes per tensor.
_LONGEST = 64 << 20
#: torch begins each tensor's memory at a multiple of so many bytes.
_ALIGNMENT = 64
#: What says how the rest is to be read.
_OF_FORMAT = ("version", "byteorder", ".format_version", ".storage_alignment")
#: The bytes before a member's name; and of the field that fills up to the alignment.
_HEADER = 30
_FIELD = 4

#: What `weights_only=True` allows, as far as states of training need it.
_FUNCTIONS = {
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.set",
    "__builtin__.bytearray",
    "__builtin__.complex",
    "__builtin__.set",
    "collections.Counter",
    "collections.OrderedDict",
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_meta_tensor_no_storage",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}
_STORAGE = re.compile(r"torch(\.cuda|\.storage)?\.[A-Z][A-Za-z0-9]*Storage")
_DTYPE = re.compile(r"torch\.(bool|half|double|b?float[0-9a-z_]*|complex\d+|q?u?int[0-9x]+)")


class NotLoadable(Exception):
    """The file is none of torch, or holds more than tensors and plain values."""


class TorchFile:
    """A file of torch that is open. Raises `NotLoadable` where it would not load safely."""

    def __init__(self, file: BinaryIO) -> None:
        with _not_loadable():
            self._zip = zipfile.ZipFile(careful(file))
            self._infos = {info.filename: info for info in self._zip.infolist()}
            pickles = [name for name in self._infos if name.endswith("/data.pkl")]
            if len(pickles) != 1 or self._infos[pickles[0]].file_size > _LONGEST:
                raise NotLoadable("it is no file that torch.save writes since torch 1.6")
            found = read(self._zip.read(pickles[0]))
        self._folder = pickles[0][: -len("data.pkl")]
        self._value = found.value
        for named in found.globals:
            if not is_allowed(named):
                raise NotLoadable(
                    f"loading it would run {named}, which makes neither a tensor nor a plain value"
                )

    def part(self, key: str) -> "Part":
        """What the file's value has under `key`, as a file of its own."""
        value = self._value
        items = dict(value.items) if isinstance(value, Call) else value
        if not isinstance(items, dict) or key not in items:
            raise NotLoadable(f"it has no '{key}'")
        with _not_loadable():
            text = write(items[key])
            memories = [self._infos[name] for name in self._memories(items[key])]
        of_format = [f"{self._folder}{name}" for name in _OF_FORMAT]
        return Part(
            self._zip,
            self._folder,
            text,
            [*(self._infos[name] for name in of_format if name in self._infos), *memories],
        )

    def _memories(self, value: Any) -> List[str]:
        """The members with the memory of the tensors in a value, each once."""
        found: Dict[str, None] = {}
        seen: Set[int] = set()
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Persistent):
                _, _, key, *_ = value.key
                found[f"{self._folder}data/{key}"] = None
            waiting += _inside(value)
        return list(found)


class Part(NamedTuple):
    """A part of a file of torch, which is to be written as a file of its own."""

    source: zipfile.ZipFile
    folder: str
    text: bytes
    infos: List[zipfile.ZipInfo]

    @property
    def size(self) -> int:
        """About as many bytes as it will have, and not less."""
        slack = 2 * _HEADER + _ALIGNMENT + 200
        return len(self.text) + sum(info.file_size + slack for info in self.infos) + 2 * slack

    def write(self, sink: Sink) -> None:
        """Write it. Raises `NotLoadable` where the memory of a tensor is damaged."""
        with _not_loadable(), zipfile.ZipFile(cast("BinaryIO", sink), "w") as target:
            self._add(target, f"{self.folder}data.pkl", len(self.text), [self.text])
            for info in self.infos:
                with self.source.open(info) as memory:
                    blocks = iter(partial(memory.read, BLOCK), b"")
                    self._add(target, info.filename, info.file_size, blocks)

    def _add(self, target: zipfile.ZipFile, name: str, size: int, blocks: Iterable[bytes]) -> None:
        info = zipfile.ZipInfo(name)
        info.file_size = size
        assert target.fp is not None, "it is open"
        begin = target.fp.tell() + _HEADER + len(name.encode()) + _FIELD
        fill = -begin % _ALIGNMENT
        info.extra = b"FB" + struct.pack("<H", fill) + b"Z" * fill
        with target.open(info, "w") as file:
            for block in blocks:
                file.write(block)


def is_allowed(named: Global) -> bool:
    """Whether `torch.load(..., weights_only=True)` allows a global."""
    name = str(named)
    return bool(name in _FUNCTIONS or _STORAGE.fullmatch(name) or _DTYPE.fullmatch(name))


def _inside(value: Any) -> List[Any]:
    if isinstance(value, Persistent):
        return [value.key]
    if isinstance(value, Call):
        return [value.function, value.args, *value.states, *itertools.chain(*value.items)]
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, (list, tuple)) else []


@contextlib.contextmanager
def _not_loadable() -> Iterator[None]:
    try:
        yield
    except (*ZIP_FAULTS, KeyError, TypeError, BadPickle) as error:
        raise NotLoadable(f"it cannot be read as a file of torch ({error})") from error
