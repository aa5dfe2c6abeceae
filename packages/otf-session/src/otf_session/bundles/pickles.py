"""Pickles as data: read without executing anything, and written again in part.

A pickle is a program for a small stack machine. Here it is run with every call left undone: a
`Call` says what would be called, with what. Only the operations that torch's own restricted loader
knows exist (`torch.load(..., weights_only=True)`): what is read here loads there, if it calls no
more than that one allows.
"""

import pickle
import pickletools
import struct
from typing import Any, Callable, Dict, List, NamedTuple, Tuple, Union

#: How deep values may be nested; and how many operations a pickle may have, of which a tensor takes
#: some 40.
_DEEPEST = 100
_MOST = 2_000_000


class BadPickle(Exception):
    """The bytes are no pickle, or one with operations or values that are not allowed."""


class Global(NamedTuple):
    """A name in a module: a function or a class."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Persistent:
    """What is kept outside the pickle, under a key: the memory of tensors."""

    def __init__(self, key: Any) -> None:
        self.key = key


class Call:
    """What a function or class would return for `args`; then filled with items, then given states."""

    def __init__(self, function: Any, args: Any) -> None:
        self.function = function
        self.args = args
        self.items: List[Tuple[Any, Any]] = []
        self.states: List[Any] = []


class Pickle(NamedTuple):
    """The value that a pickle describes, and every global that it names."""

    value: Any
    globals: List[Global]


def read(data: bytes) -> Pickle:
    """What a pickle describes; `BadPickle` where it is none, or goes beyond what is allowed."""
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number == _MOST:
                raise BadPickle("it has more operations than any checkpoint needs")
            operation = _OPERATIONS.get(opcode.name)
            if operation is None:
                raise BadPickle(f"it has the operation {opcode.name}, which no checkpoint needs")
            operation(machine, argument)
        (value,) = machine.stack
    # An empty stack, a key that is none, a mark that was never set, a value of the wrong kind.
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise BadPickle(f"it is no whole pickle ({error})") from error
    return Pickle(value, machine.globals)


class _Machine:
    """The stack that operations work on."""

    def __init__(self) -> None:
        self.stack: List[Any] = []
        self.below: List[List[Any]] = []
        self.memo: Dict[int, Any] = {}
        self.globals: List[Global] = []

    def pop_to_mark(self) -> List[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self, count: int) -> List[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise IndexError("the stack is empty")
        del self.stack[-count:]
        return items


def _mark(machine: _Machine, _: Any) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _global(machine: _Machine, argument: str) -> None:
    named = Global(*argument.split(" ", 1))
    machine.globals.append(named)
    machine.stack.append(named)


def _call(machine: _Machine, _: Any) -> None:
    machine.stack.append(Call(*machine.pop(2)))


def _build(machine: _Machine, _: Any) -> None:
    (state,) = machine.pop(1)
    machine.stack[-1].states.append(state)


def _set_items(machine: _Machine, flat: List[Any]) -> None:
    target = machine.stack[-1]
    for key, value in zip(flat[::2], flat[1::2]):
        if isinstance(target, Call):
            target.items.append((key, value))
        elif type(target) is dict:
            target[key] = value
        else:
            raise TypeError("it fills what is no dict")


def _extend(machine: _Machine, items: List[Any]) -> None:
    if type(machine.stack[-1]) is not list:
        raise TypeError("it appends to what is no list")
    machine.stack[-1].extend(items)


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _push(make: Callable[[Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(make(argument))


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(tuple(machine.pop(count)))


def _tuple_to_mark(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.stack.append(tuple(items))


def _nothing(machine: _Machine, _: Any) -> None:
    """The first and the last operation say only that it begins and ends."""


_OPERATIONS: Dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _nothing,
    "STOP": _nothing,
    "MARK": _mark,
    "NONE": _push(lambda _: None),
    "NEWTRUE": _push(lambda _: True),
    "NEWFALSE": _push(lambda _: False),
    "BININT": _push(int),
    "BININT1": _push(int),
    "BININT2": _push(int),
    "LONG1": _push(int),
    "BINFLOAT": _push(float),
    "BINUNICODE": _push(str),
    # pickletools shows bytes as the text that has the same numbers.
    "SHORT_BINSTRING": _push(lambda text: text.encode("latin-1")),
    "EMPTY_TUPLE": _push(lambda _: ()),
    "EMPTY_LIST": _push(lambda _: []),
    "EMPTY_DICT": _push(lambda _: {}),
    "EMPTY_SET": _push(lambda _: set()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": _tuple_to_mark,
    "APPEND": lambda machine, _: _extend(machine, machine.pop(1)),
    "APPENDS": lambda machine, _: _extend(machine, machine.pop_to_mark()),
    "SETITEM": lambda machine, _: _set_items(machine, machine.pop(2)),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_to_mark()),
    "GLOBAL": _global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.stack.append(Persistent(*machine.pop(1))),
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
}


def write(value: Any) -> bytes:
    """A pickle (protocol 2) of a value that was read; `BadPickle` where it would have no end."""
    writer = _Writer()
    writer.write(value, 0)
    return b"".join([pickle.PROTO + b"\x02", *writer.parts, pickle.STOP])


class _Writer:
    """Writes values into parts of a pickle. What is there many times over is written as often."""

    def __init__(self) -> None:
        self.parts: List[bytes] = []

    def write(self, value: Any, depth: int) -> None:
        """Write a value that is nested so deep."""
        if depth > _DEEPEST:
            raise BadPickle("its values are nested without end")
        if len(self.parts) > _MOST:
            raise BadPickle("it unfolds to more than any checkpoint holds")
        if isinstance(value, Global):
            self.parts.append(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self._write_call(value, depth + 1)
        elif isinstance(value, Persistent):
            self.write(value.key, depth + 1)
            self.parts.append(pickle.BINPERSID)
        elif isinstance(value, dict):
            self.parts.append(pickle.EMPTY_DICT)
            self._write_items(list(value.items()), depth + 1)
        elif isinstance(value, (list, tuple)):
            self._write_sequence(value, depth + 1)
        else:
            self.parts.append(_plain(value))

    def _write_call(self, call: Call, depth: int) -> None:
        self.write(call.function, depth)
        self.write(call.args, depth)
        self.parts.append(pickle.REDUCE)
        self._write_items(call.items, depth)
        for state in call.states:
            self.write(state, depth)
            self.parts.append(pickle.BUILD)

    def _write_sequence(self, values: Union[List[Any], Tuple[Any, ...]], depth: int) -> None:
        is_list = isinstance(values, list)
        self.parts.append(pickle.EMPTY_LIST + pickle.MARK if is_list else pickle.MARK)
        for value in values:
            self.write(value, depth)
        self.parts.append(pickle.APPENDS if is_list else pickle.TUPLE)

    def _write_items(self, items: List[Tuple[Any, Any]], depth: int) -> None:
        if items:
            self.parts.append(pickle.MARK)
            for key, value in items:
                self.write(key, depth)
                self.write(value, depth)
            self.parts.append(pickle.SETITEMS)


def _plain(value: Any) -> bytes:
    if value is None:
        return pickle.NONE
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return pickle.BININT + struct.pack("<i", value)
        digits = pickle.encode_long(value)
        return pickle.LONG1 + bytes([len(digits)]) + digits
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    if isinstance(value, bytes):
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value
    assert value == set(), "no other value can be read"
    return pickle.EMPTY_SET
