"""Golden messages: what Python and TypeScript agree on."""

import json
import re

import msgspec
import pytest
from otf_session import frames
from otf_session.events import AnyEvent
from otf_session.frames import Frame, encode

from ..helpers.vocabulary import EVENTS, FRAMES, GOLDEN, golden_messages, tag

_DIRECTIONS = [frames.FromTrainer, frames.ToTrainer, frames.FromDashboard, frames.ToDashboard]
_WRITE = "run `python -m tests.helpers.vocabulary`"


def unions(message):
    """The unions by which the message is decoded somewhere."""
    if not isinstance(message, Frame):
        return [AnyEvent]
    return [union for union in _DIRECTIONS if type(message) in union.__args__]


def test_there_is_a_golden_file_for_every_message_and_no_other():
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(golden_messages()), _WRITE


def test_every_kind_of_message_has_a_sample():
    assert {type(event) for event in EVENTS} == set(AnyEvent.__args__)
    known = {kind for union in _DIRECTIONS for kind in union.__args__}
    assert {type(frame) for frame in FRAMES} == known


@pytest.mark.parametrize("name", sorted(golden_messages()))
def test_a_golden_message_is_decoded_and_encoded_to_the_same(name):
    text = (GOLDEN / name).read_text(encoding="utf-8")
    message = golden_messages()[name]
    assert unions(message)
    for union in unions(message):
        decoded = msgspec.json.decode(text, type=union)
        assert decoded == message, _WRITE
        assert json.loads(msgspec.json.encode(decoded)) == json.loads(text)


@pytest.mark.parametrize("name", sorted(golden_messages()))
def test_an_added_field_is_ignored(name):
    message = golden_messages()[name]
    newer = json.dumps({**msgspec.to_builtins(message), "added_later": {"by": ["a newer peer"]}})
    for union in unions(message):
        assert msgspec.json.decode(newer, type=union) == message


@pytest.mark.parametrize("name", sorted(golden_messages()))
def test_an_unknown_tag_is_refused(name):
    message = golden_messages()[name]
    field = type(message).__struct_config__.tag_field
    unknown = json.dumps({**msgspec.to_builtins(message), field: "of-another-world"})
    for union in unions(message):
        with pytest.raises(msgspec.ValidationError, match="Invalid value 'of-another-world'"):
            msgspec.json.decode(unknown, type=union)


def test_a_peer_decodes_only_what_is_meant_for_it():
    welcome = encode(frames.TrainerWelcome(server_version="1", viewers=0))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(welcome, type=frames.FromTrainer)


def test_a_trainer_that_says_no_protocol_has_protocol_0():
    old = b'{"frame": "trainer-hello", "session": "s", "last_seq": 3}'
    assert msgspec.json.decode(old, type=frames.FromTrainer).protocol == 0


def test_the_last_seq_of_a_batch_is_that_of_its_last_event():
    batch = frames.Batch(session="s", first=5, events=EVENTS[:3])
    assert batch.last == 7


@pytest.mark.parametrize("message", [*EVENTS, *FRAMES], ids=tag)
def test_tags_are_words_joined_by_hyphens(message):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", tag(message))
