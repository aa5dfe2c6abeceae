"""Loading what `torch.save` wrote without running any of its code, mapped where that can be."""

from __future__ import annotations

import mmap
import pickle
import re
import struct
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..errors import UnreadableInput
from .zip_records import NotAnArchive, Record, records_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

# How files of `torch.save` begin: a zip archive, or before torch 1.6 a pickled magic number.
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# A tar archive, which is what torch wrote before 0.1.10, has this word here.
_TAR, _TAR_AT = b"ustar", 257

#: What `torch.load` raises on files that are not as they must be, depending on where.
DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    OverflowError,
    struct.error,
)

_CONVERSION = (
    "If you trust the file, load it with the code that wrote it and save the weights alone: "
    '`torch.save(model.state_dict(), "weights.pt")`.'
)
_SCRIPT_CONVERSION = (
    'Save its weights alone: `torch.save(torch.jit.load("{name}").state_dict(), "weights.pt")`.'
)
_DISTRIBUTED_CONVERSION = (
    "Gather them before saving, with `torch.distributed.checkpoint.state_dict."
    "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))`, or save a "
    "folder with `torch.distributed.checkpoint.save`, which can be merged."
)


class Loaded(NamedTuple):
    """What a file holds, and which of its storages are mapped from the file.

    `storages` has the address of each of them, and at which offset in the file it lies; None where
    that is not known.
    """

    value: Any
    storages: Mapping[int, int | None]


def load(path: Path) -> Loaded:
    """What was saved in a file of `torch.save`; raises `UnreadableInput` for any other file."""
    is_zip = _require_torch_file(path)
    records = _archive(path) if is_zip else {}
    mapped: dict[int, int] = {}

    def on_cpu(storage: Any, _: str) -> Any:
        if is_zip:
            mapped[storage.data_ptr()] = storage.nbytes()
        return storage

    try:
        value = _loaded(path, on_cpu, mapped=is_zip)
    except RuntimeError as error:
        # Tensors of some accelerators and tensor subclasses are not made by way of their storages.
        if "map_location" not in str(error):
            raise refused(path, error) from error
        mapped.clear()
        value = _loaded_whole(path)
    except DAMAGE as error:
        raise refused(path, error) from error
    return Loaded(value, _offsets(mapped, records.values()))


def _loaded_whole(path: Path) -> Any:
    try:
        return _loaded(path, "cpu", mapped=False)
    except DAMAGE as error:
        raise refused(path, error) from error


def _loaded(path: Path, place: Any, *, mapped: bool) -> Any:
    # torch warns about pickle protocols here; whether the file can be read is all we ask.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(str(path), map_location=place, weights_only=True, mmap=mapped)


def refused(path: Path, error: BaseException) -> UnreadableInput:
    """The error for a file that `torch.load` does not load, by what it raised (`DAMAGE`)."""
    if isinstance(error, pickle.UnpicklingError):
        return UnreadableInput(_refusal(path, error))
    return damaged(path, str(error).partition("\n")[0] or type(error).__name__)


def damaged(path: Path, reason: str) -> UnreadableInput:
    """The error for a file that is not as it was written."""
    return UnreadableInput(
        f"`{path}` is damaged ({reason}). It may have been cut short while it was written or "
        "copied; save or copy it again."
    )


def only_weights(path: Path, found: str) -> UnreadableInput:
    """The error for a file that holds something else than tensors, and how to convert it."""
    return UnreadableInput(f"`{path}` {found}. {_CONVERSION}")


def gather_first(path: Path, found: str) -> UnreadableInput:
    """The error for a file with parts of tensors, and how to make whole ones of them."""
    return UnreadableInput(f"`{path}` {found}. {_DISTRIBUTED_CONVERSION}")


def looks_like_torch(path: Path) -> bool:
    """Whether the file begins as files of `torch.save` do."""
    with path.open("rb") as file:
        start = file.read(len(_LEGACY))
    return start.startswith(_ZIP) or start == _LEGACY


def _require_torch_file(path: Path) -> bool:
    """Whether it is a zip archive, and not a file of the older kind."""
    with path.open("rb") as file:
        start = file.read(_TAR_AT + len(_TAR))
    if start.startswith(_ZIP):
        return True
    if start.startswith(_LEGACY):
        return False
    if start[_TAR_AT:] == _TAR:
        raise UnreadableInput(
            f"`{path}` is a tar archive, as torch wrote them before version 0.1.10. Load it with "
            "`torch.load` of a trusted file and save it again with `torch.save`."
        )
    raise only_weights(
        path, "was not written by `torch.save`. A plain pickle could run code, so it is not read"
    )


def _archive(path: Path) -> dict[str, Record]:
    """The records of the zip archive, which is one that can be mapped."""
    with path.open("rb") as file:
        try:
            records = records_of(file)
        except NotAnArchive as error:
            raise damaged(path, str(error)) from error
        if "constants.pkl" in records:
            conversion = _SCRIPT_CONVERSION.format(name=path.name)
            raise UnreadableInput(
                f"`{path}` is a TorchScript archive, a program with its weights. {conversion}"
            )
        if "data.pkl" not in records:
            raise UnreadableInput(
                f"`{path}` is a zip archive that `torch.save` did not write. {_CONVERSION}"
            )
        if not all(it.stored for it in records.values()):
            raise UnreadableInput(
                f"`{path}` has been compressed after it was saved. Load it with `torch.load` and "
                "save it again with `torch.save`."
            )
        if "byteorder" in records:
            file.seek(records["byteorder"].offset)
            order = file.read(records["byteorder"].size)
            if order != sys.byteorder.encode():
                raise UnreadableInput(
                    f"`{path}` was written on a machine of the other byte order. Load it with "
                    "`torch.load` and save it again with `torch.save` on this one."
                )
    return {name: it for name, it in records.items() if name.startswith("data/")}


def _offsets(mapped: Mapping[int, int], records: Collection[Record]) -> dict[int, int | None]:
    """For the address of each storage, where in the file its record lies.

    All of them lie in one mapping of the file, at the offsets of their records. If there are as
    many records as storages, the first record is the first storage; where anything about that is
    not as it must be, the offsets remain unknown.
    """
    storages = sorted(address for address, size in mapped.items() if size)
    filled = sorted(record for record in records if record.size)
    if not storages or len(storages) != len(filled):
        return dict.fromkeys(mapped)
    base = storages[0] - filled[0].offset
    fits = base % mmap.PAGESIZE == 0 and all(
        address - base == record.offset and mapped[address] == record.size
        for address, record in zip(storages, filled)
    )
    return {address: address - base for address in mapped} if fits else dict.fromkeys(mapped)


def _refusal(path: Path, error: pickle.UnpicklingError) -> str:
    """Why the file is not read, and how it can be converted."""
    found = re.search(r"(?:GLOBAL|class) ([\w.]+\.\w+)", str(error))
    culprit = f", among them `{found[1]}`" if found else ""
    sharded = re.search(r"DTensor|ShardedTensor|DeviceMesh", str(error))
    conversion = _DISTRIBUTED_CONVERSION if sharded else _CONVERSION
    if sharded and not found:
        culprit = ", among them distributed tensors"
    return (
        f"`{path}` holds Python objects that are not tensors{culprit}. Reading those could run "
        f"code, so they are not read. {conversion}"
    )
