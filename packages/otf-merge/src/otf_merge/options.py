"""The options that say what to merge and how, which `merge`, `plan` and `compare` have in common."""

from pathlib import Path
from typing import List, Optional

import typer

#: The groups of options in the help, in their order.
PANELS = ("What to merge", "How", "Data", "Output", "Machine", "Parameters of methods")

_WHAT, _HOW, _DATA, _OUTPUT, _MACHINE, _ = PANELS


def options(  # noqa: PLR0917 - each is a keyword to whoever types it
    paths: Optional[List[str]] = typer.Argument(
        None,
        metavar="PATHS",
        help="Checkpoints, folders that hold some, or patterns in quotes.",
    ),
    method: Optional[str] = typer.Option(
        None,
        "--method",
        "-m",
        metavar="NAME",
        help="How to merge: see `otf-merge methods` (default: linear).",
        rich_help_panel=_WHAT,
    ),
    base: Optional[Path] = typer.Option(
        None,
        "--base",
        metavar="PATH",
        help="The model that the checkpoints were fine-tuned from.",
        rich_help_panel=_WHAT,
    ),
    weight: Optional[List[str]] = typer.Option(
        None,
        "--weight",
        "-w",
        metavar="NUMBERS",
        help="Each checkpoint's weight, in their order: with commas, or once for each (default: "
        "equal). Where deltas are added up, a negative one takes away.",
        rich_help_panel=_WHAT,
    ),
    key: Optional[str] = typer.Option(
        None,
        "--key",
        metavar="KEY",
        help="Where files keep the weights, if under no usual key.",
        rich_help_panel=_WHAT,
    ),
    skip: Optional[List[str]] = typer.Option(
        None,
        "--skip",
        metavar="PATTERN",
        help="Tensors to take from the first checkpoint as they are, such as 'head.*'. May be "
        "repeated.",
        rich_help_panel=_WHAT,
    ),
    allow_missing: Optional[bool] = typer.Option(
        None,
        "--allow-missing",
        metavar="",
        help="Average tensors that only some checkpoints have over those.",
        rich_help_panel=_WHAT,
    ),
    allow_nonfinite: Optional[bool] = typer.Option(
        None,
        "--allow-nonfinite",
        metavar="",
        help="Merge even where a tensor holds NaN or infinity.",
        rich_help_panel=_WHAT,
    ),
    recipe: Optional[Path] = typer.Option(
        None,
        "--recipe",
        metavar="FILE",
        help="A YAML file that says all of this, as `otf-merge plan` prints it. Options win over "
        "it.",
        rich_help_panel=_WHAT,
    ),
    overrides: Optional[List[str]] = typer.Option(
        None,
        "--set",
        metavar="PATTERN:KEY=VALUE",
        help="Other weights or parameters for some tensors, such as 'encoder.*:weight=0.7'. May be "
        "repeated.",
        rich_help_panel=_HOW,
    ),
    parameter: Optional[List[str]] = typer.Option(
        None,
        "--param",
        metavar="NAME=VALUE",
        help="A parameter of a method from another package. May be repeated.",
        rich_help_panel=_HOW,
    ),
    align: Optional[str] = typer.Option(
        None,
        "--align",
        metavar="weights|FILE",
        help="Match hidden units to the first checkpoint's before merging.",
        rich_help_panel=_HOW,
    ),
    dtype: Optional[str] = typer.Option(
        None,
        "--dtype",
        metavar="NAME",
        help="The result's floating-point type, such as float16 (default: each tensor's in the "
        "first checkpoint).",
        rich_help_panel=_HOW,
    ),
    task: Optional[str] = typer.Option(
        None,
        "--task",
        metavar="MODULE:FUNCTION",
        help="Your model and data; also path/to/file.py:function.",
        rich_help_panel=_DATA,
    ),
    samples: Optional[int] = typer.Option(
        None,
        "--samples",
        min=1,
        metavar="N",
        help="How many samples to look at for Fisher information or Gram matrices (default: 256).",
        rich_help_panel=_DATA,
    ),
    fisher: Optional[List[Path]] = typer.Option(
        None,
        "--fisher",
        metavar="FILE",
        help="A checkpoint's Fisher information, once for each, in their order.",
        rich_help_panel=_DATA,
    ),
    grams: Optional[List[Path]] = typer.Option(
        None,
        "--grams",
        metavar="FILE",
        help="A checkpoint's Gram matrices, once for each, in their order.",
        rich_help_panel=_DATA,
    ),
    search: Optional[List[str]] = typer.Option(
        None,
        "--search",
        metavar="NAME=A,B,...",
        help="Values of a parameter to try on the task's validation data. May be repeated.",
        rich_help_panel=_DATA,
    ),
    recalibrate: Optional[str] = typer.Option(
        None,
        "--recalibrate",
        metavar="WHEN",
        help="Recompute normalisation statistics on the task's training data: auto, always or never "
        "(default: auto, where that is better).",
        rich_help_panel=_DATA,
    ),
    gate: Optional[bool] = typer.Option(
        None,
        "--gate",
        metavar="",
        help="Accept the result only if it is no worse than the best parent on validation data.",
        rich_help_panel=_DATA,
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        metavar="",
        help="Print one JSON document, for programs.",
        rich_help_panel=_OUTPUT,
    ),
    threads: Optional[int] = typer.Option(
        None,
        "--threads",
        min=1,
        metavar="N",
        help="Threads to compute with (default: one for each core).",
        rich_help_panel=_MACHINE,
    ),
    device: str = typer.Option(
        "cpu",
        "--device",
        metavar="NAME",
        help="Where to compute, such as cuda (default: cpu).",
        rich_help_panel=_MACHINE,
    ),
) -> None:
    """What these options are called, and how they are told of."""
