"""Names that wrappers and modules have put prefixes before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otf_merge.checkpoints.names import bare, counterparts

NAMES = ["layer.0.weight", "layer.0.bias", "head.weight"]


def under(prefix: str) -> list[str]:
    return [prefix + name for name in NAMES]


@pytest.mark.parametrize(
    "name",
    [
        "module.layer.w",
        "module.module.layer.w",
        "_orig_mod.layer.w",
        "module._orig_mod.layer.w",
        "_orig_mod.module.layer.w",
        "layer._orig_mod.w",
        "_fsdp_wrapped_module.layer._fsdp_wrapped_module.w",
        "layer._checkpoint_wrapped_module.w",
        "module._fsdp_wrapped_module._checkpoint_wrapped_module.layer.w",
    ],
)
def test_what_wrappers_add_is_set_aside(name: str) -> None:
    assert bare(name) == "layer.w"
    assert counterparts([name], ["layer.w"]) == {name: "layer.w"}
    assert counterparts(["layer.w"], [name]) == {"layer.w": name}


@pytest.mark.parametrize("prefix", ["model.", "net.backbone.", "module.model."])
def test_a_prefix_that_all_names_of_one_file_have_is_set_aside(prefix: str) -> None:
    assert counterparts(under(prefix), NAMES) == dict(zip(under(prefix), NAMES))
    assert counterparts(NAMES, under(prefix)) == dict(zip(NAMES, under(prefix)))


def test_wrappers_within_and_a_prefix_before_are_set_aside_together() -> None:
    wrapped = [f"model.{name.replace('layer.', 'layer._orig_mod.')}" for name in NAMES]
    assert counterparts(wrapped, under("module.")) == dict(zip(wrapped, under("module.")))


def test_one_name_has_the_prefix_that_fits() -> None:
    assert counterparts(["a.b.c.w"], ["c.w"]) == {"a.b.c.w": "c.w"}
    assert counterparts(["w"], ["a.b.w"]) == {"w": "a.b.w"}


def test_prefixes_are_kept_where_names_would_not_be_the_same() -> None:
    assert counterparts([*under("model."), "extra"], NAMES) == {}
    assert counterparts(under("student."), under("teacher.")) == {}
    assert counterparts(under("model."), NAMES[:2]) == {}
    # A part of a name is no prefix.
    assert counterparts(["modelw", "modelb"], ["w", "b"]) == {}


def test_names_that_are_already_the_same_are_left_alone() -> None:
    names = [*under("module."), *NAMES]
    assert counterparts(names, names) == {name: name for name in names}
    # Without the prefix they would be two of one name.
    assert counterparts(names, NAMES) == {name: name for name in NAMES}


def test_the_names_that_there_are_in_both_are_matched() -> None:
    assert counterparts([*under("module."), "module.new"], NAMES) == dict(
        zip(under("module."), NAMES)
    )
    assert counterparts([], NAMES) == {}
    assert counterparts(NAMES, []) == {}


PARTS = st.lists(st.sampled_from(["a", "b", "model", "module"]), min_size=1, max_size=3)


@given(
    st.sets(PARTS.map(".".join), max_size=5),
    st.sets(PARTS.map(".".join), max_size=5),
)
def test_a_counterpart_is_one_of_the_others_and_of_one_name_only(
    names: set[str], others: set[str]
) -> None:
    found = counterparts(names, others)
    assert set(found) <= names
    assert set(found.values()) <= others
    assert len(set(found.values())) == len(found)
    back = counterparts(others, names)
    assert {theirs: own for own, theirs in found.items()} == back
