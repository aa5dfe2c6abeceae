import random
import time

import pytest
from otf_session.ids import new_id

NOW = 1_795_512_600.0


def test_an_id_is_its_second_and_a_key():
    second, _, key = new_id([], NOW).rpartition("-")
    assert second == time.strftime("%Y%m%d-%H%M%S", time.gmtime(NOW)) == "20261124-093000"
    assert len(key) == 4


def test_later_ids_are_greater_also_within_a_second():
    moments = [NOW + thousandth / 500 for thousandth in range(1000)]
    found = [new_id([], moment) for moment in moments]
    assert found == sorted(found)
    assert len(set(found)) == 1000


@pytest.mark.parametrize("moment", [NOW, NOW + 0.3, NOW + 0.9])
def test_an_id_is_newer_than_all_of_its_second(moment):
    # Even where the clock has been set back, or another program made them by chance.
    others = []
    for _ in range(500):
        others.append(new_id(random.sample(others, len(others)), moment))
    assert others == sorted(others)
    assert len(set(others)) == 500


def test_a_second_that_is_full_has_no_id():
    assert new_id(["20261124-093000-zzzz"], NOW) is None
    assert new_id(["20261124-093000-zzzz"], NOW + 1) > "20261124-093000-zzzz"


@pytest.mark.parametrize(
    "other",
    [
        "20261124-093001-zzzz",
        "20261124-093000-ZZZZ",
        "20261124-093000-zzzzz",
        "zzzz",
        "",
        "notes.md",
    ],
)
def test_what_is_no_id_of_the_second_is_no_matter(other):
    assert new_id([other], NOW).startswith("20261124-093000-2")


def test_keys_hold_nothing_that_people_misread():
    keys = "".join(new_id([], NOW + number / 977).rpartition("-")[2] for number in range(900))
    assert not set(keys) & set("ilo01")
