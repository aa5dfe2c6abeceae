"""`otf-merge methods`: what there is, and what each needs."""

from __future__ import annotations

from typing import Any

from .catalogue import catalogue, described


def told_of(name: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    """The methods, or the one of that name, and what could not be loaded of other packages.

    Raises `UnknownMethod` where there is none of that name.
    """
    built_in = catalogue()
    if name is not None:
        known = [it for it in built_in if it["name"] == name]
        if known:
            return known, []
        from .registry import find_method

        return [described(find_method(name))], []
    from .registry import list_others

    others, problems = list_others()
    return sorted([*built_in, *map(described, others)], key=lambda it: str(it["name"])), problems


def listed(methods: list[dict[str, Any]], *, whole: bool) -> str:
    """The methods a line each, or everything about them."""
    if whole:
        return "\n\n".join(_whole(it) for it in methods)
    width = max(len(it["name"]) for it in methods)
    lines = []
    for it in methods:
        needs = f" Needs {' and '.join(it['needs'])}." if it["needs"] else ""
        source = f" {it['paper']}" if it["paper"] else ""
        lines.append(f"{it['name']:<{width}}  {it['summary']}{needs}{source}")
    return "\n".join(lines)


def _whole(method: dict[str, Any]) -> str:
    lines = [f"{method['name']}: {method['summary']}"]
    if method["paper"]:
        lines.append(f"Source: {method['paper']}")
    if method["needs"]:
        lines.append(f"Needs: {', '.join(method['needs'])}")
    if "base" in method["optional"]:
        lines.append("Takes a base (--base) where there is one.")
    if not method["parameters"]:
        lines.append("No parameters.")
    for it in method["parameters"]:
        option = f"--{it['name'].replace('_', '-')}"
        lines.append(f"  {option}  {it['kind']}, default {_shown(it['default'])}")
        lines += [f"      {it['help']}"] if it["help"] else []
    return "\n".join(lines)


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)
