"""`otf-merge methods`: what there is, and what each needs."""

from __future__ import annotations

from typing import Any

from .catalogue import catalogue, described, shown
from .text import hanging


def told_of(name: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    """The methods, or the one of that name, and what could not be loaded of other packages.

    Raises `UnknownMethod` where there is none of that name.
    """
    built_in = catalogue()
    if name is None:
        from .registry import list_others

        others, problems = list_others()
        found = {it["name"]: it for it in [*map(described, others), *built_in]}
        return [found[each] for each in sorted(found)], problems
    known = [it for it in built_in if it["name"] == name]
    return known or [_foreign(name, {it["name"] for it in built_in})], []


def _foreign(name: str, built_in: set[str]) -> dict[str, Any]:
    from .registry import find_method, offered_names, unknown

    offered = offered_names()
    if name not in offered:
        raise unknown(name, built_in | offered)
    return described(find_method(name))


def listed(methods: list[dict[str, Any]], *, whole: bool) -> str:
    """The methods with a sentence each, or everything about them."""
    if whole:
        return "\n\n".join(_whole(it) for it in methods)
    width = max(len(it["name"]) for it in methods) + 2
    lines = []
    for it in methods:
        needs = f" Needs {' and '.join(it['needs'])}." if it["needs"] else ""
        source = f" {it['paper']}." if it["paper"] else ""
        told = f"{it['summary']}{needs}{source}"
        lines.append(hanging(f"{it['name']:<{width}}", told, width))
    return "\n".join(lines)


def _whole(method: dict[str, Any]) -> str:
    lines = [hanging("", f"{method['name']}: {method['summary']}", 0)]
    if method["paper"]:
        lines.append(f"Source: {method['paper']}.")
    if method["needs"]:
        lines.append(f"Needs {' and '.join(method['needs'])}.")
    if "base" in method["optional"]:
        lines.append("Takes a base (--base) where there is one.")
    lines += ["", f"  {_example(method)}"]
    lines += ["", "Parameters:" if method["parameters"] else "No parameters."]
    for it in method["parameters"]:
        option = f"--{it['name'].replace('_', '-')}"
        lines.append(f"  {option}  {it['kind']}, default {shown(it['default'])}")
        lines += [hanging("      ", it["help"], 6)] if it["help"] else []
    return "\n".join(lines)


def _example(method: dict[str, Any]) -> str:
    """How the method is called, with what it cannot do without."""
    given = {"a base": "--base base.pt", "a task": "--task mytask.py:task"}
    needed = [
        it for start, it in given.items() if any(n.startswith(start) for n in method["needs"])
    ]
    files = "a.pt" if method["most"] == 1 else "a.pt b.pt"
    return " ".join(["otf-merge -m", method["name"], *needed, files])
