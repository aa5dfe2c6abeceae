"""A file on its way to whoever fetches it, whole or in part, a little of it in memory at a time."""

from __future__ import annotations

import asyncio
import re
from typing import BinaryIO, Callable, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

#: Bytes that are read and sent at a time.
_BLOCK = 1 << 18
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Span(NamedTuple):
    """The bytes from `begin` up to, and without, `end`."""

    begin: int
    end: int


class NotSatisfiable(Exception):
    """A range that the file does not reach."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes, and none in the range that was asked for.")
        self.size = size


def span_of(header: Optional[str], size: int) -> Optional[Span]:
    """The part that a `Range` header asks for; None where it is the whole file.

    Headers that ask for several parts, or for something that is none, are left out of account, as
    HTTP has it (RFC 9110, section 14.2). Raises `NotSatisfiable`.
    """
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < begin:
            return None
    if begin >= size or begin >= end:
        raise NotSatisfiable(size)
    return Span(begin, end)


class Delivered:
    """Which parts of a file have been sent."""

    def __init__(self) -> None:
        self._spans: List[Span] = []

    def add(self, span: Span) -> None:
        """This part too."""
        self._spans.append(span)

    def is_whole(self, size: int) -> bool:
        """Whether nothing is left out."""
        reached = 0
        for begin, end in sorted(self._spans):
            if begin > reached:
                return False
            reached = max(reached, end)
        return reached >= size


class Download:
    """The response. `on_sent` is called once all of the part has gone to someone who stayed.

    The file is not empty.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        name: str,
        size: int,
        span: Optional[Span],
        on_sent: Callable[[Span], None],
    ) -> None:
        self._file = file
        self._name = name
        self._size = size
        self._span = span
        self._on_sent = on_sent

    @property
    def status(self) -> int:
        """The HTTP status: whether it is the whole file."""
        return 200 if self._span is None else 206

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        span = self._span or Span(0, self._size)
        with self._file as file:
            start = {"type": "http.response.start", "status": self.status}
            await send({**start, "headers": self._headers(span)})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            gone = asyncio.ensure_future(_disconnected(receive))
            try:
                await asyncio.to_thread(file.seek, span.begin)
                left = span.end - span.begin
                while left:
                    block = await asyncio.to_thread(file.read, min(_BLOCK, left))
                    # Asked, because what is sent to someone who has gone is taken without a word.
                    if gone.done() or not block:
                        return
                    left -= len(block)
                    await send({"type": "http.response.body", "body": block, "more_body": left > 0})
            finally:
                gone.cancel()
        self._on_sent(span)

    def _headers(self, span: Span) -> List[Tuple[bytes, bytes]]:
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(span.end - span.begin),
            "content-disposition": disposition(self._name),
            "accept-ranges": "bytes",
            "cache-control": "no-store",
        }
        if self._span is not None:
            headers["content-range"] = f"bytes {span.begin}-{span.end - 1}/{self._size}"
        return [(name.encode(), value.encode()) for name, value in headers.items()]


def disposition(name: str) -> str:
    """The header that has a browser save a file under its name (RFC 6266)."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", name)
    if plain == name:
        return f'attachment; filename="{name}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
