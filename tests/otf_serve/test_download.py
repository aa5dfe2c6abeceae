"""A file on its way: which part of it, under which name, and to whom."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otf_serve.download import Delivered, Download, NotSatisfiable, Span, disposition, span_of


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", Span(0, 100)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes = 10 - 19", Span(10, 20)),
        ("bytes=90-500", Span(90, 100)),
        ("bytes=-10", Span(90, 100)),
        ("bytes=-500", Span(0, 100)),
        # What is none, or several, is left out of account.
        ("bytes=-", None),
        ("bytes=20-10", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_a_range_is_the_part_it_says(header, expected):
    assert span_of(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=500-600", "bytes=-0"])
def test_a_range_that_the_file_does_not_reach_is_none(header):
    with pytest.raises(NotSatisfiable, match="100 bytes"):
        span_of(header, 100)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20))))
def test_a_file_is_delivered_once_every_byte_of_it_is(parts):
    delivered, seen = Delivered(), set()
    for begin, length in parts:
        delivered.add(Span(begin, begin + length))
        seen |= set(range(begin, begin + length))
        assert delivered.is_whole(20) == (set(range(20)) <= seen)


def test_a_name_is_quoted_where_it_has_to_be():
    assert disposition("run 1.zip") == 'attachment; filename="run 1.zip"'
    assert disposition('a"b\u00fc.zip') == (
        "attachment; filename=\"a_b_.zip\"; filename*=UTF-8''a%22b%C3%BC.zip"
    )


def send(path, content, messages, method="GET"):
    """What is sent of a file to somebody who says these things, and what is said to be sent."""
    path.write_bytes(content)
    sent, delivered = [], []

    async def main():
        waiting = list(messages)

        async def receive():
            if waiting:
                return waiting.pop(0)
            return await asyncio.Event().wait()

        async def take(message):
            sent.append(message)
            await asyncio.sleep(0)

        download = Download(
            path.open("rb"), name="x", size=len(content), span=None, on_sent=delivered.append
        )
        await download({"type": "http", "method": method}, receive, take)

    asyncio.run(main())
    return b"".join(message.get("body", b"") for message in sent), delivered


def test_a_file_is_sent_whole_to_who_stays(tmp_path):
    content = bytes(range(256)) * 4096
    assert send(tmp_path / "f", content, [{"type": "http.request"}]) == (
        content,
        [Span(0, len(content))],
    )


def test_a_file_is_not_read_on_for_who_has_gone(tmp_path):
    body, delivered = send(tmp_path / "f", bytes(1 << 20), [{"type": "http.disconnect"}])
    assert len(body) < 1 << 20
    assert delivered == []


def test_the_head_of_a_file_delivers_nothing(tmp_path):
    assert send(tmp_path / "f", b"content", [], "HEAD") == (b"", [])
