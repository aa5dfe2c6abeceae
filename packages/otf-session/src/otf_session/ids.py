"""Session ids: the second in which a session began, and a key of four letters and digits.

Sorted by name is sorted by age, also of sessions that begin in the same second: a key begins with
the part of the second that had gone by, to about a millisecond, and comes after all keys that the
second has already. What people type is the key.
"""

import secrets
import time
from typing import Iterable, Optional

# In the order in which names are sorted; without i, l, o, 0 and 1, which people misread.
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_BASE = len(_ALPHABET)
_LENGTH = 4
#: How many keys there are, and how many of them begin alike.
_KEYS = _BASE**_LENGTH
_ALIKE = _BASE**2


def new_id(others: Iterable[str], now: Optional[float] = None) -> Optional[str]:
    """An id for a session that begins now, newer than all of `others`.

    None where the second has no key left for it: then try again a moment later.
    """
    now = time.time() if now is None else now
    second = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    # Two that begin in the same millisecond, in two processes, differ by chance.
    number = int(now % 1 * (_KEYS // _ALIKE)) * _ALIKE + secrets.randbelow(_ALIKE)
    newest = max((_number(name, second) for name in others), default=-1)
    if number <= newest:
        number = newest + 1 + secrets.randbelow(_BASE)
    return f"{second}-{_key(number)}" if number < _KEYS else None


def _number(session_id: str, second: str) -> int:
    """The place of an id's key among all keys; -1 where it is of another second."""
    begin, _, key = session_id.rpartition("-")
    if begin != second or len(key) != _LENGTH or not set(key) <= set(_ALPHABET):
        return -1
    number = 0
    for character in key:
        number = number * _BASE + _ALPHABET.index(character)
    return number


def _key(number: int) -> str:
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, _BASE)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
