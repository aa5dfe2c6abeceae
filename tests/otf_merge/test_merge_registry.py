"""Declaring merge methods, here and in other packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import merge_method
from otf_merge.errors import InvalidMethod, UnknownMethod
from otf_merge.methods import BUILT_IN
from otf_merge.registry import find_method, list_methods

PLUGIN = """
import torch
from otf_merge import merge_method

@merge_method("plug-median", summary="The element-wise median.", paper="a paper")
def median(tensors):
    return torch.stack(list(tensors)).median(dim=0).values

def undeclared(tensors):
    return tensors[0]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a package that offers merge methods by the given lines of entry points."""

    def install(entry_points: str) -> None:
        site = tmp_path / "site"
        info = site / "plugged-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "plugged.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[otf.merge_methods]\n{entry_points}\n")
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, "plugged", raising=False)

    return install


def test_a_method_of_another_package_merges(
    install: Callable[[str], None], cli: Callable[..., Any], save: Callable[..., Path]
) -> None:
    install("plug-median = plugged:median")
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 9.0)):
        save(f"ckpts/{name}.pt", {"w": torch.tensor([value])})
    assert cli("--method", "plug-median", "ckpts").exit_code == 0
    assert torch.load("merged.pt", weights_only=True)["w"].item() == 2.0
    assert "The element-wise median. a paper" in cli("methods").stdout
    assert "No parameters." in cli("methods", "plug-median").stdout
    assert "takes no weights" in cli("-m", "plug-median", "ckpts", *["-w", 1] * 3, "--force").stderr


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("plug = missing_module:x", "cannot be loaded from `missing_module:x`"),
        ("plug = plugged:missing", "cannot be loaded from `plugged:missing`"),
        ("plug = plugged:undeclared", "is no merge method of that name"),
        ("plug = plugged:median", "is no merge method of that name"),
    ],
)
def test_a_broken_package_is_told_and_spares_the_others(
    install: Callable[[str], None], cli: Callable[..., Any], entry_point: str, message: str
) -> None:
    install(entry_point)
    with pytest.raises(InvalidMethod, match=message):
        find_method("plug")
    assert find_method("linear").name == "linear"
    result = cli("methods")
    assert result.exit_code == 0
    assert message in result.stderr
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == [method.name for method in sorted(BUILT_IN, key=lambda it: it.name)]


def test_built_in_methods_are_not_replaced(install: Callable[[str], None]) -> None:
    install("linear = plugged:median")
    assert find_method("linear").paper == "arXiv:2203.05482"
    assert [it.paper for it in list_methods()[0] if it.name == "linear"] == ["arXiv:2203.05482"]


def test_names_of_other_packages_are_near_too(install: Callable[[str], None]) -> None:
    install("plug-median = plugged:median")
    with pytest.raises(UnknownMethod, match=r"The nearest are: plug-median\."):
        find_method("plug-medain")


def test_a_declared_function_is_still_a_function() -> None:
    @merge_method("max", summary="The largest.")
    def largest(tensors: Any) -> torch.Tensor:
        return torch.stack(list(tensors)).amax(dim=0)

    assert largest([torch.tensor(1.0), torch.tensor(2.0)]).item() == 2.0


def test_a_parameter_that_nothing_supplies_is_refused() -> None:
    with pytest.raises(InvalidMethod, match="asks for `density`, which nothing supplies"):

        @merge_method("sparse", summary="Sparse.")
        def sparse(tensors: list[torch.Tensor], *, density: float) -> torch.Tensor:
            return tensors[0] * density


def test_a_function_without_tensors_is_refused() -> None:
    with pytest.raises(InvalidMethod, match="takes no tensors"):

        @merge_method("nothing", summary="Nothing.")
        def nothing() -> torch.Tensor:
            return torch.ones(1)
