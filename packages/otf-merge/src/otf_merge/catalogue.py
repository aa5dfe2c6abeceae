"""The built-in methods and their parameters as data, for help that does not import torch.

`catalogue.json` is generated from the methods themselves: `python -m otf_merge.catalogue`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def generated() -> str:
    """What `catalogue.json` has to hold."""
    from .methods import BUILT_IN

    methods = sorted(BUILT_IN, key=lambda method: method.name)
    return json.dumps([described(method) for method in methods], indent=1) + "\n"


if __name__ == "__main__":
    PLACE.write_text(generated(), encoding="utf-8")
