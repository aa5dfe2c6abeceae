"""Reading pickles in which only what is expected is made, and nothing is ever imported or run.

Every class or function that a pickle names is looked up in a table of stand-ins: classes that keep
what they are given, or words. A name that is not in the table ends the reading.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping

# What unpickling raises on damaged or made-up pickles, besides `UnpicklingError`.
_DAMAGE = (
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    MemoryError,
    OverflowError,
    RecursionError,
)


class NotExpected(ValueError):
    """The pickle holds something else than it should; `name` is what it wanted to import."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class Stated:
    """Stands for an object: keeps what it was made of, and the state that it was given."""

    # A pickle may make an object without its constructor.
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def field(self, name: str, default: Any = None) -> Any:
        """One of the fields that the object's state has by name."""
        return self.state.get(name, default) if isinstance(self.state, dict) else default


def read_pickle(
    file: BinaryIO,
    stand_ins: Mapping[tuple[str, str], Any],
    *,
    persistent: bool = False,
) -> Any:
    """What is pickled, made of those stand-ins alone.

    With `persistent`, what the pickle only names is its name. Raises `NotExpected`.
    """
    try:
        return _Unpickler(file, stand_ins, persistent=persistent).load()
    except NotExpected:
        raise
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        raise NotExpected(str(error) or type(error).__name__) from error


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: BinaryIO, stand_ins: Mapping[tuple[str, str], Any], *, persistent: bool
    ) -> None:
        super().__init__(file)
        self._stand_ins = stand_ins
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._stand_ins[module, name]
        except KeyError:
            raise NotExpected(f"it names {module}.{name}", f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        if not self._persistent:
            raise NotExpected("it names something that it does not hold")
        return pid
