"""The built-in methods and their parameters as data, for help that does not import torch.

`catalogue.json` and the page of the documentation are generated from the methods themselves:
`python -m otf_merge.catalogue docs/merge-methods.md`.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

_INTRODUCTION = """# Merge methods

What each method of `otf merge` computes, where it comes from, and its parameters. In formulas `t[i]` is a
tensor of checkpoint `i`, `w[i]` its weight, and a delta is what a checkpoint differs by from the base.
This page is generated: `python -m otf_merge.catalogue docs/merge-methods.md`.

"""

PLACE = Path(__file__).with_name("catalogue.json")


def catalogue() -> list[dict[str, Any]]:
    """The built-in methods, as `described` tells of each, by name."""
    found: list[dict[str, Any]] = json.loads(PLACE.read_text(encoding="utf-8"))
    return found


def described(method: Any) -> dict[str, Any]:
    """A `MergeMethod` in plain values."""
    return {
        "name": method.name,
        "summary": method.summary,
        "paper": method.paper,
        "needs": needs_of(method),
        "fewest": method.fewest,
        "most": method.most,
        "optional": sorted(method.takes - method.needs - {"progress", "report", "name"}),
        "parameters": [
            {
                "name": it.name,
                "kind": it.told,
                "default": it.default,
                "help": it.help,
            }
            for it in method.parameters
        ],
    }


def needs_of(method: Any) -> list[str]:
    """What must be given beside checkpoints, in words."""
    words = {
        "base": "a base (--base)",
        "task": "a task (--task)",
        "fisher": "Fisher information (--fisher, --task or Adam's state)",
        "grams": "Gram matrices (--grams, --task or the checkpoints' own)",
    }
    return [words[name] for name in words if name in method.needs]


def shown(default: Any) -> str:
    """A parameter's default as it would be typed."""
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def generated() -> str:
    """What `catalogue.json` has to hold."""
    from .methods import BUILT_IN

    methods = sorted(BUILT_IN, key=lambda method: method.name)
    return json.dumps([described(method) for method in methods], indent=1) + "\n"


def page() -> str:
    """The page of the documentation that tells of all methods, in Markdown."""
    from .methods import BUILT_IN

    methods = sorted(BUILT_IN, key=lambda method: method.name)
    return _INTRODUCTION + "\n".join(_section(method) for method in methods)


def _section(method: Any) -> str:
    told = inspect.cleandoc(method.function.__doc__)
    lines = [f"## {method.name}", "", method.summary, "", told, ""]
    if method.paper:
        lines += [f"Source: {method.paper}.", ""]
    needs = needs_of(method)
    if needs:
        lines += [f"Needs {' and '.join(needs)}.", ""]
    if method.parameters:
        lines += ["| parameter | values | default | what it does |", "| --- | --- | --- | --- |"]
        for it in method.parameters:
            lines.append(f"| `{it.name}` | {it.told} | {shown(it.default)} | {it.help} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PLACE.write_text(generated(), encoding="utf-8")
    for place in sys.argv[1:]:
        Path(place).write_text(page(), encoding="utf-8")
