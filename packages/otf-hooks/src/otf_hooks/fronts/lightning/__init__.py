"""Lightning's front: `attach_lightning`, a callback, and a logger for the record alone.

Lightning is imported when one of these is asked for, not before.
"""

from __future__ import annotations

from typing import Any

__all__ = ["OnTheFlyCallback", "OnTheFlyLogger", "attach_lightning"]


def __getattr__(name: str) -> Any:
    if name == "attach_lightning":
        from .attach import attach_lightning

        return attach_lightning
    if name == "OnTheFlyCallback":
        from . import namespaces
        from .callback import callback_class

        return callback_class(*namespaces.in_use())
    if name == "OnTheFlyLogger":
        from . import namespaces
        from .logger import logger_class

        return logger_class(*namespaces.in_use())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
