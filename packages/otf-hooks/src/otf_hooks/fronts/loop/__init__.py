"""The front for a training loop that the script writes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

from otf_session.address import DEFAULT_HOST

from ...errors import ArgumentError
from ...guards import Guard
from ..options import RunOptions, check_count, check_run_name
from .run import WatchedRun
from .setup import check

__all__ = ["WatchedRun", "watch"]


def watch(
    model: Any = None,
    optimizer: Any = None,
    *,
    project: str,
    run_name: str = "base",
    scheduler: Any = None,
    scaler: Any = None,
    loss_fn: Any = None,
    max_steps: Optional[int] = None,
    save_dir: Optional[Union[str, Path]] = None,
    dashboard_host: str = DEFAULT_HOST,
    dashboard_port: Optional[int] = None,
    auto_connect: bool = True,
    linger: bool = False,
    ckpt_keep: int = 10,
    ckpt_every_steps: Optional[int] = None,
    ckpt_every_minutes: Optional[float] = 10.0,
    guards: Optional[Sequence[Guard]] = None,
    stall_after: Optional[float] = None,
    health: Optional[Mapping[str, int]] = None,
    reduce_metrics: bool = False,
    telemetry_budget: float = 0.01,
) -> WatchedRun:
    """Record a training loop of one's own, and let a dashboard steer it.

        with onthefly.watch(model, optimizer, project="mine", run_name="base") as run:
            for epoch in run.epochs(10):
                for batch in run.batches(train_loader):
                    loss = ...
                    run.step(loss=loss)

    Inside, the script trains as it always did: what is watched is not wrapped or changed. Whatever
    training depends on is given here, so that checkpoints have it.

    Args:
        model: The module that is trained; a dict or a list of several. None records only.
        optimizer: What trains it, or a dict or a list of several.
        project: What the runs belong to, for a person.
        run_name: The run's name.
        scheduler: What the script steps to set the learning rate, or several.
        scaler: The GradScaler, where the script scales its loss.
        loss_fn: The loss function, where it is a module that learns too.
        max_steps: End after so many steps.
        save_dir: Where checkpoints are written; by default inside the session's folder.
        dashboard_host: The host of the server, which shares this machine's OnTheFly home.
        dashboard_port: Its port; by default `$ONTHEFLY_DASHBOARD_PORT`, else 47621.
        auto_connect: Link to that server whenever it runs. Without it the run is only recorded.
        linger: Stay, paused, when `epochs` is done and a dashboard is open; resumed there, the run
            trains as much again.
        ckpt_keep: The checkpoints that are kept of each run, beside those that are pinned.
        ckpt_every_steps: Save the whole state every so many steps.
        ckpt_every_minutes: Save the whole state every so many minutes; None saves none by time.
        guards: What watches the numbers, such as `[NonFinite("pause")]`; by default a warning where
            the loss is not finite. An empty list watches nothing.
        stall_after: Seconds without any movement that count as a stall; by default it depends on
            the phase.
        health: Every how many steps each check of health is made, such as `{"numerics": 1000}`.
        reduce_metrics: With several processes, record the means over all, and not rank 0's own.
        telemetry_budget: The share of step time that may go into figures that are sampled: norms of
            gradients and weights, and activations. 0 samples none.

    Raises `ArgumentError` where an argument cannot be what it is.
    """
    options = RunOptions(
        project=project,
        save_dir=save_dir,
        dashboard_host=dashboard_host,
        dashboard_port=dashboard_port,
        auto_connect=auto_connect,
        linger=linger,
        ckpt_keep=ckpt_keep,
        ckpt_every_steps=ckpt_every_steps,
        ckpt_every_minutes=ckpt_every_minutes,
        guards=guards,
        stall_after=stall_after,
        health=health,
        reduce_metrics=reduce_metrics,
        telemetry_budget=telemetry_budget,
    )
    check_count("max_steps", max_steps)
    check_run_name(run_name)
    if not run_name:
        raise ArgumentError("watch needs run_name=: the run's name.")
    watched = check(
        model=model, optimizer=optimizer, scheduler=scheduler, scaler=scaler, loss_fn=loss_fn
    )
    return WatchedRun(watched, options, run_name, max_steps)
