"""`otf session metrics`: what was measured, for other programs."""

import os
import sys
from pathlib import Path
from typing import BinaryIO, List, Optional, Union

import typer

from . import completion
from .metrics.format import Format
from .shell import HomeOption, misuse, progress, user_errors

_SUFFIXES = {".parquet": Format.PARQUET, ".jsonl": Format.JSONL, ".csv": Format.CSV}
_TO_PATHS = (Format.PARQUET, Format.TENSORBOARD)


def metrics(
    session_id: str = typer.Argument(
        ...,
        metavar="ID",
        help="A session's id, an unambiguous part of it, its name, or `latest`.",
        autocompletion=completion.session_ids,
    ),
    runs: List[str] = typer.Option(
        [],
        "--run",
        help="Only this run; may be given several times.",
        autocompletion=completion.run_names,
    ),
    names: List[str] = typer.Option(
        [],
        "--metric",
        help="Only this metric; may be given several times.",
        autocompletion=completion.metric_names,
    ),
    format: Optional[Format] = typer.Option(  # noqa: A002
        None,
        "--format",
        help="What reads it (default: by the name of the output, else csv).",
        show_default=False,
    ),
    output: Optional[Path] = typer.Option(
        None,
        "--output",
        "-o",
        help="The file it is written to, whole or not at all, and for tensorboard a new folder "
        "(default: standard output, for csv and jsonl).",
        show_default=False,
    ),
    wide: bool = typer.Option(
        False,
        "--wide",
        help="One row per step with a column per metric, for a spreadsheet (csv and parquet).",
    ),
    rewound: bool = typer.Option(
        False,
        "--rewound",
        help="With points that a rewind took out of the curves, and a column that says so.",
    ),
    force: bool = typer.Option(False, "--force", help="Replace a file that is there."),
    home: Optional[Path] = HomeOption,
) -> None:
    """Write what was measured to a file: run, name, step, time and value, a row for each value.

    Of a value that is not finite csv says nan, parquet and tensorboard NaN, jsonl null. Times are
    seconds since 1970.
    """
    from .home import Home
    from .metrics.export import export_metrics

    chosen = format or _by_suffix(output)
    _check(chosen, output, wide=wide, rewound=rewound)
    with user_errors():
        folder = Home.find(home).session_folder(session_id)
        target: Union[Path, BinaryIO] = sys.stdout.buffer if output is None else output
        try:
            with progress("points") as bar:
                written = export_metrics(
                    folder,
                    chosen,
                    target,
                    runs=runs,
                    names=names,
                    rewound=rewound,
                    wide=wide,
                    force=force,
                    report=bar.put,
                )
        except BrokenPipeError:
            # Whoever reads has seen enough, as `head` has. What waits for it must not be flushed.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    if output is not None:
        typer.echo(f"{written.points:,} values of {folder.name} are in {output}.", err=True)
    if written.damage:
        typer.echo(f"error: {written.damage} What comes before that was written.", err=True)
        raise typer.Exit(1)


def _by_suffix(output: Optional[Path]) -> Format:
    return _SUFFIXES.get(output.suffix.lower(), Format.CSV) if output is not None else Format.CSV


def _check(chosen: Format, output: Optional[Path], *, wide: bool, rewound: bool) -> None:
    if chosen in _TO_PATHS and output is None:
        what = "a folder" if chosen is Format.TENSORBOARD else "a file"
        misuse(f"{chosen.value} is written to {what}: name it with -o.")
    if wide and chosen not in (Format.CSV, Format.PARQUET):
        misuse(f"--wide is for csv and parquet, not for {chosen.value}.")
    if rewound and chosen is Format.TENSORBOARD:
        misuse("--rewound is not for tensorboard, whose curves have one value at a step.")
