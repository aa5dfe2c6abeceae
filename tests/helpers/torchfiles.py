"""Files such as torch.save writes, without torch: for tests of what reads them without it."""

import io
import pickle
import struct
import zipfile
from typing import Any, Dict, List

from otf_session.bundles.pickles import Call, Global, Persistent, write


def tensor(key: str, count: int) -> Call:
    """A tensor of `count` 32-bit numbers, whose memory is the file's member `data/KEY`."""
    storage = ("storage", Global("torch", "FloatStorage"), key, "cpu", count)
    hooks = Call(Global("collections", "OrderedDict"), ())
    args = (Persistent(storage), 0, (count,), (1,), False, hooks)
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), args)


def torch_file(value: Any, memory: Dict[str, List[float]]) -> bytes:
    """The file with this value and the memory of its tensors."""
    return torch_file_of(write(value), memory)


def torch_file_of(text: bytes, memory: Dict[str, List[float]]) -> bytes:
    """The file with this pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), text)
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), "little")
        for key, numbers in memory.items():
            archive.writestr(
                zipfile.ZipInfo(f"archive/data/{key}"), struct.pack(f"<{len(numbers)}f", *numbers)
            )
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
    return made.getvalue()


def checkpoint(**more: Any) -> bytes:
    """A checkpoint with a model of two tensors, one of which the optimizer has too."""
    model = {"weight": tensor("0", 3), "bias": tensor("1", 1)}
    optimizer = {"state": {0: {"exp_avg": tensor("2", 3)}}}
    value = {"model": model, "optimizer": optimizer, "step": 7, **more}
    return torch_file(value, {"0": [1, 2, 3], "1": [4], "2": [5, 6, 7]})


def hostile(command: str) -> bytes:
    """A checkpoint that executes a shell's command where it is unpickled without care."""

    class Evil:
        def __reduce__(self) -> Any:
            import os

            return (os.system, (command,))

    return torch_file_of(pickle.dumps({"model": {}, "x": Evil()}, protocol=2), {})
