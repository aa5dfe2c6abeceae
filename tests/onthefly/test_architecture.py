"""Who imports whom: the rules of the house, held to the sources."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"otf_session", "otf_merge", "otf_hooks", "otf_serve", "onthefly"}
MAY_IMPORT = {
    "otf_session": set(),
    "otf_merge": set(),
    "otf_hooks": {"otf_session", "otf_merge"},
    "otf_serve": {"otf_session"},
    "onthefly": {"otf_session", "otf_merge", "otf_hooks", "otf_serve"},
}
WITHOUT_TORCH = {"otf_session", "otf_serve"}


def package_folder(package):
    distribution = "onthefly-ai" if package == "onthefly" else package.replace("_", "-")
    return ROOT / "packages" / distribution


def imports(path):
    """The top-level modules a file imports, with whether at module level."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            yield name.split(".")[0], id(node) in top


def sources(package):
    found = sorted((package_folder(package) / "src" / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_those_below_it(package):
    allowed = MAY_IMPORT[package] | {package}
    for path in sources(package):
        for name, _ in imports(path):
            assert name not in OURS or name in allowed, f"{path} imports {name}"


@pytest.mark.parametrize("package", sorted(WITHOUT_TORCH))
def test_torch_stays_out(package):
    for path in sources(package):
        assert "torch" not in {name for name, _ in imports(path)}, path


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python lists its modules since 3.10")
@pytest.mark.parametrize("package", ["otf_session", "otf_merge", "otf_serve", "onthefly"])
def test_a_cli_module_imports_only_typer_and_the_standard_library(package):
    path = package_folder(package) / "src" / package / "cli.py"
    for name, at_top in imports(path):
        if at_top:
            assert name == "typer" or name in sys.stdlib_module_names, f"{path} imports {name}"


def test_all_packages_have_one_version_and_ask_for_each_other_at_it():
    version = (ROOT / "VERSION").read_text().strip()
    for package in OURS:
        text = (package_folder(package) / "pyproject.toml").read_text()
        assert 'path = "../../VERSION"' in text
        asked = text.split("dependencies = [")[1]
        siblings = re.findall(r'"(otf-\w+|onthefly-ai)(?:\[\w+\])?([^"]*)"', asked)
        for name, wanted in siblings:
            assert wanted in ("", f"~={version}"), f"{package} asks for {name}{wanted}"


def test_the_changelog_begins_with_this_version():
    version = (ROOT / "VERSION").read_text().strip()
    (first, *_) = re.findall(
        r"^## \[?([\w.]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert first in (version, "Unreleased")
