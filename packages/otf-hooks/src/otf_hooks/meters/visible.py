"""Which NVIDIA devices a process sees, and in which order: the numbers of `cuda:0`, `cuda:1`, ..."""

from __future__ import annotations

from typing import List, Optional, Sequence

#: What NVML puts before the identifiers of whole GPUs, and of instances of one (MIG).
KINDS = ("GPU-", "MIG-")


def visible_devices(setting: Optional[str], identifiers: Sequence[str]) -> List[str]:
    """The identifiers of the devices that a setting of `CUDA_VISIBLE_DEVICES` shows, in order.

    `identifiers` are those of the machine's GPUs in NVML's order, that of the PCI bus. Numbers in
    the setting are taken in this order too, which is CUDA's own where all GPUs are of one kind or
    `CUDA_DEVICE_ORDER=PCI_BUS_ID` is set. A GPU may be named by a beginning of its identifier, and
    an instance by its whole one, which is not looked for among `identifiers`. As in CUDA, the first
    entry that names no device hides what follows it.
    """
    if setting is None:
        return list(identifiers)
    found: List[str] = []
    for entry in (part.strip() for part in setting.split(",")):
        device = _named(entry, identifiers)
        if device is None or device in found:
            break
        found.append(device)
    return found


def _named(entry: str, identifiers: Sequence[str]) -> Optional[str]:
    if entry.startswith("MIG-"):
        return entry
    if entry.isdecimal():
        number = int(entry)
        return identifiers[number] if number < len(identifiers) else None
    if not entry.startswith("GPU-"):
        return None
    fitting = [identifier for identifier in identifiers if identifier.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None
