"""How a comparison looks in a terminal: the best first, and what did not apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .catalogue import catalogue, shown
from .text import hanging

if TYPE_CHECKING:
    from .comparing import Contender

_NUMBERS = 8
_TIME = 8


def line(contender: Contender) -> str:
    """What came of one method, to be said as soon as it is known."""
    if contender.scores is None:
        return f"{contender.name}: {contender.note}"
    return f"{contender.name}: metric {contender.scores.metric:.4f}"


def ranking(contenders: list[Contender]) -> str:
    """The table of what could be compared, in the given order, and why the others could not."""
    scored = [it for it in contenders if it.scores is not None]
    others = [it for it in contenders if it.scores is None]
    names = max(len(it.name) for it in contenders)
    lines = []
    if scored:
        head = f"{'':<{names}}  {'metric':>{_NUMBERS}}  {'loss':>{_NUMBERS}}  {'time':>{_TIME}}"
        lines = [f"{head}  parameters", *(_row(it, names) for it in scored)]
    if others:
        lines += ["", "Not compared:"] if scored else ["Not compared:"]
        lines += [hanging(f"{it.name:<{names}}  ", it.note, names + 2) for it in others]
    return "\n".join(it.rstrip() for it in lines)


def _row(contender: Contender, names: int) -> str:
    assert contender.scores is not None
    is_method = contender.kind == "method"
    time = f"{contender.seconds:.1f} s" if is_method else contender.kind
    scores = f"{contender.scores.metric:>{_NUMBERS}.4f}  {contender.scores.loss:>{_NUMBERS}.4f}"
    return f"{contender.name:<{names}}  {scores}  {time:>{_TIME}}  {_parameters(contender)}"


def _parameters(contender: Contender) -> str:
    """Those that are not as the method has them by itself."""
    methods = {it["name"]: it for it in catalogue()}
    known = methods.get(contender.name, {"parameters": []})["parameters"]
    defaults = {it["name"]: it["default"] for it in known}
    return ", ".join(
        f"{name}={shown(it)}"
        for name, it in contender.parameters.items()
        if name not in defaults or it != defaults[name]
    )
