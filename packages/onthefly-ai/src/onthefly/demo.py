"""`otf demo`: a small network learns handwritten digits, live on a dashboard."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import typer

app = typer.Typer(name="demo", pretty_exceptions_enable=False)

#: An end that nobody waits for: the demo trains until it is stopped.
_ENDLESS_EPOCHS = 100_000


@app.command()
def demo(
    headless: bool = typer.Option(
        False, "--headless", help="Open no browser, train to the end, print a summary."
    ),
    epochs: Optional[int] = typer.Option(
        None,
        min=1,
        help="Passes over the data (default: 5 with --headless, else no end).",
        show_default=False,
    ),
    port: Optional[int] = typer.Option(
        None,
        help="The dashboard's port (default: $ONTHEFLY_DASHBOARD_PORT, else 47621).",
        show_default=False,
    ),
) -> None:
    """Train a small network on handwritten digits, live on a dashboard, until you stop it."""
    from otf_session.errors import SessionError

    try:
        with _server(port) as ready:
            _greet(ready, headless=headless)
            _train(epochs or (5 if headless else _ENDLESS_EPOCHS), port, headless=headless)
    except KeyboardInterrupt:
        typer.echo("Stopped. `otf session list` shows what was recorded.")
    except SessionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@contextlib.contextmanager
def _server(port: Optional[int]) -> Iterator[Dict[str, Any]]:
    """A server for the demo: the one that runs already, else one that ends with the demo."""
    # It holds the other end of this pipe, and so it ends with the demo however that ends.
    command = [sys.executable, "-m", "otf_serve", "--json", "--until-stdin-closes"]
    if port is not None:
        command += ["--port", str(port)]
    # In a session of its own, so that the Ctrl-C meant for the training does not reach it.
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=os.name == "posix",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            # It has said on stderr why it could not start.
            raise typer.Exit(process.wait() or 1)
        yield json.loads(line)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _greet(ready: Dict[str, Any], *, headless: bool) -> None:
    token = Path(ready["token_file"]).read_text().strip()
    link = f"{ready['address']}/?token={token}"
    typer.echo(f"OnTheFly dashboard: {link}")
    if headless:
        return
    typer.echo("Pause, resume and stop the training there; Ctrl-C here ends it all.")
    if _has_desktop():
        import webbrowser

        webbrowser.open(link)


def _has_desktop() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _train(epochs: int, port: Optional[int], *, headless: bool) -> None:
    try:
        from .digits import train
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        typer.echo(
            "error: the demo trains on scikit-learn's digits, and scikit-learn is not installed. "
            'Install it: pip install "onthefly-ai[demo]"',
            err=True,
        )
        raise typer.Exit(1) from error
    result = train(epochs=epochs, port=port, linger=not headless)
    metrics = result.metrics
    typer.echo(f"Session {result.session}: run '{result.run}' {result.state}.")
    typer.echo(f"{result.step} steps in {result.epoch} epochs.")
    for name in ("loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy"):
        value = metrics.get(name)
        if value is not None:
            typer.echo(f"{name:<14}{value:.4f}")
    typer.echo(f"Recorded in {result.folder}")
