import subprocess
import sys

import onthefly
import otf_hooks
import pytest


def test_the_promised_names_are_those_of_the_packages_that_hold_them():
    from onthefly import OnTheFlyTrainer, Trainer, merge

    assert OnTheFlyTrainer is Trainer is otf_hooks.Trainer
    assert callable(merge)
    assert set(onthefly.__all__) <= set(dir(onthefly))
    for name in onthefly.__all__:
        assert getattr(onthefly, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        onthefly.Trainr  # noqa: B018


def test_importing_the_front_loads_nothing_heavy():
    code = "import sys, onthefly; print([n for n in ('torch', 'otf_hooks', 'lightning') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lightning_is_not_imported_before_it_is_asked_for():
    code = (
        "import sys, otf_hooks, onthefly; onthefly.attach_lightning\n"
        "found = [n for n in ('lightning', 'pytorch_lightning') if n in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
