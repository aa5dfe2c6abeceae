"""What can be changed while training runs, and who owns the learning rate afterwards."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from otf_hooks import checkpoint
from otf_hooks.errors import NotPossible
from otf_hooks.hyperparameters import Hyperparameters, Tunables
from otf_hooks.snapshot import Snapshot
from otf_session.commands import SetHyperparameters
from torch import nn
from torch.optim import lr_scheduler

STEPS = 14

# torch's own, about what SequentialLR does inside.
pytestmark = pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")


def sequential(optimizer):
    parts = [
        lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=3),
        lr_scheduler.ExponentialLR(optimizer, gamma=0.9),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[6])


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, step_size=3, gamma=0.3),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=10),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.05, total_steps=STEPS + 1),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.7, patience=1),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda number: 1 / (number + 1)),
    "SequentialLR": sequential,
}


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def adamw_in_groups(model):
    weight, bias = model.parameters()
    groups = [{"params": [weight], "lr": 0.02}, {"params": [bias], "lr": 0.03, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.01)


def adam_with_tensor(model):
    return torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01), foreach=False)


def without_functions(scheduler):
    # Which torch's own kept there before version 2.4.
    return {k: v for k, v in scheduler.state_dict().items() if not inspect.isroutine(v)}


OPTIMIZERS = {"sgd": sgd, "adamw-groups": adamw_in_groups, "adam-tensor": adam_with_tensor}


class Run:
    """An optimizer with its scheduler, stepped through the product or, as `bare`, without it."""

    def __init__(self, optimizer="sgd", scheduler=None, *, clip=None, bare=False):
        torch.manual_seed(0)
        self.model = nn.Linear(3, 2)
        self.optimizer = OPTIMIZERS[optimizer](self.model)
        self.scheduler = None if scheduler is None else SCHEDULERS[scheduler](self.optimizer)
        self.tunables = Tunables()
        self.found = Hyperparameters(
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            grad_clip_norm=clip,
            tunables=self.tunables,
        )
        self.bare = bare
        self.steps = 0

    def step(self, count=1):
        """Train so many steps; the rates of each afterwards."""
        rates = []
        for _ in range(count):
            self.optimizer.zero_grad()
            self.model(torch.ones(1, 3)).sum().backward()
            self.optimizer.step()
            self.steps += 1
            # A plateau at once, and a better loss once.
            plateau = isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau)
            given = [0.5 if self.steps == 8 else 1.0] if plateau else []
            if self.scheduler is not None and self.bare:
                self.scheduler.step(*given)
            elif self.scheduler is not None:
                self.found.step_scheduler(*given)
            rates.append(self.rates())
        return rates

    def rates(self):
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def set(self, *, group=None, hold=None, **values):
        named = {name.replace("_dot_", "."): value for name, value in values.items()}
        return self.found.change(SetHyperparameters(values=named, group=group, hold=hold))

    def saved(self, path):
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else without_functions(self.scheduler),
            "found": self.found.state(),
            "steps": self.steps,
        }
        return checkpoint.write(path, Snapshot(state).wait())

    def load(self, path):
        state = checkpoint.load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.found.load(state["found"])
        self.steps = state["steps"]


#: torch's own schedulers put a number in the tensor's place before version 2.4.
needs_tensor_rates = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 4), reason="torch's own, before 2.4"
)


@pytest.fixture(
    params=[
        pytest.param(name, marks=needs_tensor_rates if name == "adam-tensor" else [])
        for name in OPTIMIZERS
    ]
)
def optimizer(request):
    return request.param


@pytest.fixture(params=SCHEDULERS)
def scheduler(request):
    return request.param


# The rule


def test_untouched_the_rates_are_the_schedulers_own_bit_for_bit(optimizer, scheduler):
    run = Run(optimizer, scheduler)
    assert run.step(STEPS) == Run(optimizer, scheduler, bare=True).step(STEPS)
    assert run.found.lr_owner == "scheduler"
    assert run.found.lr_rule == f"{scheduler} sets the learning rate."
    assert run.found.state()["scheduled"] is None


def test_without_a_scheduler_a_rate_is_what_it_was_last_set_to():
    run = Run()
    assert (run.found.lr_owner, run.found.lr_rule) == (
        "constant",
        "No scheduler: the learning rate stays as it is set.",
    )
    run.set(lr=0.5)
    assert run.step(3) == [[0.5]] * 3
    run.set(lr=0.25)
    assert run.step(2) == [[0.25]] * 2
    assert run.found.lr_owner == "constant"
    assert run.found.lr_factors == [1.0]


def test_a_rate_that_is_set_is_a_factor_on_the_schedulers(optimizer, scheduler):
    run, own = Run(optimizer, scheduler), Run(optimizer, scheduler, bare=True)
    run.step(4)
    before = own.step(4)[-1]
    change = run.set(lr=0.004)
    wanted = float(torch.tensor(0.004)) if optimizer == "adam-tensor" else 0.004
    assert run.rates() == [wanted] * len(before)
    factors = run.found.lr_factors
    assert factors == [0.004 / rate for rate in before]
    later = own.step(STEPS - 4)
    if optimizer == "adam-tensor":
        for rates, bare in zip(run.step(STEPS - 4), later):
            assert rates == [float(torch.tensor(bare[0] * factors[0]))]
    else:
        products = [[rate * factor for rate, factor in zip(bare, factors)] for bare in later]
        assert run.step(STEPS - 4) == products
    assert run.found.lr_owner == "scaled"
    assert run.found.lr_rule == change.lr_rule
    assert run.found.lr_rule.startswith(f"{scheduler} sets the learning rate, times ")


def test_a_second_rate_is_a_factor_on_the_schedulers_own_too_and_not_on_the_first(scheduler):
    run, own = Run(scheduler=scheduler), Run(scheduler=scheduler, bare=True)
    run.set(lr=1.0)
    run.step(3)
    ((rate,),) = own.step(3)[-1:]
    run.set(lr=0.01)
    assert run.found.lr_factors == [0.01 / rate]
    assert run.step(4) == [[bare * (0.01 / rate)] for (bare,) in own.step(4)]


def test_the_schedulers_own_rate_set_by_hand_gives_it_back(scheduler):
    run, own = Run(scheduler=scheduler), Run(scheduler=scheduler, bare=True)
    run.set(lr=1.0)
    run.step(3)
    run.set(lr=own.step(3)[-1][0])
    assert run.found.lr_owner == "scheduler"
    assert run.step(5) == own.step(5)


def test_held_it_stays_while_the_scheduler_goes_on_and_released_it_returns(optimizer, scheduler):
    run, own = Run(optimizer, scheduler), Run(optimizer, scheduler, bare=True)
    run.step(2)
    run.set(lr=0.25, hold=True)
    assert run.step(5) == [[0.25] * len(run.rates())] * 5
    assert run.found.lr_owner == "held"
    assert run.found.lr_rule == f"Held by hand at 0.25; {scheduler} goes on underneath."
    own.step(7)
    run.set(hold=False)
    assert run.rates() == own.rates()
    assert run.step(STEPS - 7) == own.step(STEPS - 7)
    assert run.found.lr_owner == "scheduler"
    run_state, own_state = run.scheduler.state_dict(), own.scheduler.state_dict()
    assert run_state.get("last_epoch") == own_state.get("last_epoch")


def test_hold_without_a_value_holds_the_rate_as_it_is(scheduler):
    run = Run(scheduler=scheduler)
    (now,) = run.step(3)[-1]
    change = run.set(hold=True)
    assert change.changes == []
    assert run.step(4) == [[now]] * 4
    assert run.found.lr_owner == "held"


def test_hold_beside_another_value_holds_the_rate_too():
    run = Run(scheduler="StepLR")
    (now,) = run.step(3)[-1]
    run.set(weight_decay=0.1, hold=True)
    assert run.step(4) == [[now]] * 4


def test_a_scaled_rate_that_was_held_returns_to_its_factor():
    run, own = Run(scheduler="CosineAnnealingLR"), Run(scheduler="CosineAnnealingLR", bare=True)
    run.set(lr=0.05)
    run.step(2)
    run.set(lr=0.3, hold=True)
    run.step(3)
    run.set(hold=False)
    own.step(5)
    factor = 0.05 / 0.1
    assert run.found.lr_owner == "scaled"
    assert run.rates() == [own.rates()[0] * factor]
    assert run.step(3) == [[rate * factor] for (rate,) in own.step(3)]


def test_a_held_rate_that_is_set_again_stays_held_at_the_new_value():
    run = Run(scheduler="StepLR")
    run.set(lr=0.3, hold=True)
    run.step(2)
    run.set(lr=0.2)
    assert run.step(4) == [[0.2]] * 4
    assert run.found.lr_owner == "held"
    assert run.found.lr_rule == "Held by hand at 0.2; StepLR goes on underneath."


def test_released_with_a_value_it_is_a_factor_again():
    run, own = Run(scheduler="CosineAnnealingLR"), Run(scheduler="CosineAnnealingLR", bare=True)
    run.set(lr=0.3, hold=True)
    run.step(2)
    (rate,) = own.step(2)[-1]
    run.set(lr=0.02, hold=False)
    assert run.rates() == [0.02]
    assert run.found.lr_owner == "scaled"
    assert run.step(3) == [[bare * (0.02 / rate)] for (bare,) in own.step(3)]


def test_without_a_scheduler_a_rate_can_be_held_and_released_too():
    run = Run()
    run.set(lr=0.3, hold=True)
    assert (run.found.lr_owner, run.found.lr_rule) == ("held", "Held by hand at 0.3.")
    run.set(hold=False)
    assert (run.found.lr_owner, run.rates()) == ("constant", [0.3])


def test_one_group_is_changed_and_the_other_is_the_schedulers_bit_for_bit():
    run, own = Run("adamw-groups", "StepLR"), Run("adamw-groups", "StepLR", bare=True)
    change = run.set(group=1, lr=0.3)
    assert [item.group for item in change.changes] == [1]
    assert run.found.lr_factors == [1.0, 0.3 / 0.03]
    for rates, bare in zip(run.step(STEPS), own.step(STEPS)):
        assert rates == [bare[0], bare[1] * (0.3 / 0.03)]


def test_one_group_is_held_and_released_by_itself():
    run, own = Run("adamw-groups", "StepLR"), Run("adamw-groups", "StepLR", bare=True)
    run.set(group=0, lr=0.5, hold=True)
    assert run.step(4) == [[0.5, bare[1]] for bare in own.step(4)]
    run.set(group=1, hold=True)
    held = own.rates()[1]
    run.set(group=0, hold=False)
    assert run.step(4) == [[bare[0], held] for bare in own.step(4)]
    assert run.found.lr_owner == "held"


def test_a_rate_of_zero_can_be_set_and_left_again():
    run, own = Run(scheduler="StepLR"), Run(scheduler="StepLR", bare=True)
    run.set(lr=0.0)
    assert run.step(4) == [[0.0]] * 4
    (rate,) = own.step(4)[-1]
    run.set(lr=0.2)
    assert run.step(3) == [[bare * (0.2 / rate)] for (bare,) in own.step(3)]


def test_where_the_scheduler_says_zero_no_factor_makes_a_rate_of_it():
    # As at the beginning of a warm-up, and at the end of a cosine.
    run = Run(scheduler="LambdaLR")
    run.scheduler.lr_lambdas = [lambda number: 0.0 if number < 5 else 1.0]
    run.step(2)
    with pytest.raises(NotPossible, match="hold"):
        run.set(lr=0.5)
    assert run.rates() == [0.0]
    assert run.found.lr_owner == "scheduler"
    run.set(lr=0.5, hold=True)
    assert run.step(3) == [[0.5]] * 3
    # Held, it may be set again; the scheduler says 0.1 by now.
    run.set(lr=0.4)
    run.set(hold=False)
    assert run.rates() == [0.1]


def test_a_factor_outlives_a_time_at_which_the_scheduler_says_zero():
    run = Run(scheduler="LambdaLR")
    run.scheduler.lr_lambdas = [lambda number: 0.0 if number in (2, 3) else 1.0]
    run.set(lr=0.05)
    run.step(2)
    run.set(lr=0.0)
    with pytest.raises(NotPossible, match="hold"):
        run.set(lr=0.4)
    assert run.step(3) == [[0.0], [0.05], [0.05]]


# In a checkpoint


@pytest.mark.parametrize("hold", [None, True])
def test_scaled_and_held_survive_a_checkpoint(optimizer, scheduler, hold, tmp_path):
    run = Run(optimizer, scheduler)
    run.step(3)
    run.set(lr=0.007, hold=hold)
    run.step(2)
    written = run.saved(tmp_path / "a.pt")
    # A process that was started anew, and one that has gone elsewhere meanwhile.
    fresh, elsewhere = Run(optimizer, scheduler), Run(optimizer, scheduler)
    elsewhere.step(4)
    elsewhere.set(lr=0.9, hold=not hold)
    uninterrupted = run.step(4)
    rule = run.found.lr_rule
    run.set(hold=False)
    uninterrupted += run.step(3)
    for other in (fresh, elsewhere):
        other.load(written.path)
        rates = other.step(4)
        assert other.found.lr_rule == rule
        assert other.found.lr_owner == ("held" if hold else "scaled")
        other.set(hold=False)
        assert rates + other.step(3) == uninterrupted
        assert torch.equal(other.model.weight, run.model.weight)


def test_from_a_checkpoint_before_any_change_the_scheduler_owns_the_rate_again(tmp_path):
    run = Run(scheduler="StepLR", clip=2.0)
    run.step(2)
    written = run.saved(tmp_path / "a.pt")
    run.set(lr=0.5, hold=True, grad_clip_norm=0.0)
    run.step(2)
    run.load(written.path)
    assert run.found.lr_owner == "scheduler"
    assert run.found.grad_clip_norm == 2.0
    own = Run(scheduler="StepLR", bare=True)
    own.step(2)
    assert run.step(8) == own.step(8)


def test_every_kind_of_value_survives_a_checkpoint(tmp_path):
    run = Run("adamw-groups")
    run.tunables.get("mixup", 0.5, 0.0, 1.0)
    run.set(weight_decay=0.3, betas_dot_0=0.8, grad_clip_norm=1.5, mixup=0.75, eps=1e-6, lr=0.001)
    table = run.found.table()
    written = run.saved(tmp_path / "a.pt")
    fresh = Run("adamw-groups")
    fresh.load(written.path)
    assert fresh.tunables.get("mixup", 0.5, 0.0, 1.0) == 0.75
    assert fresh.found.table() == table
    assert fresh.optimizer.param_groups[0]["betas"] == (0.8, 0.999)


# Single values


def test_a_value_is_what_the_next_step_trains_with():
    run, other = Run(), Run()
    run.set(weight_decay=0.5)
    run.step()
    other.step()
    assert not torch.equal(run.model.weight, other.model.weight)
    wanted = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1).param_groups[0].keys()
    assert run.optimizer.param_groups[0].keys() >= wanted


def test_a_pair_is_changed_one_number_at_a_time():
    run = Run("adamw-groups")
    change = run.set(group=0, betas_dot_1=0.95)
    (item,) = change.changes
    assert (item.name, item.group, item.before) == ("betas.1", 0, 0.999)
    assert (item.requested, item.applied) == (0.95, 0.95)
    assert [group["betas"] for group in run.optimizer.param_groups] == [(0.9, 0.95), (0.9, 0.999)]
    run.step()


@needs_tensor_rates
def test_a_tensor_is_changed_in_place_because_a_captured_graph_holds_it():
    run = Run("adam-tensor", "StepLR")
    rate = run.optimizer.param_groups[0]["lr"]
    change = run.set(lr=0.05)
    run.step(3)
    run.set(lr=0.02, hold=True)
    run.step(3)
    assert run.optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == float(torch.tensor(0.02))
    # The applied value is the one in force: as a 32 bit number can hold it.
    assert change.changes[0].requested == 0.05
    assert change.changes[0].applied == float(torch.tensor(0.05))


def test_a_number_written_as_a_whole_one_may_become_another():
    run = Run()
    group = run.optimizer.param_groups[0]
    group["lr"], group["weight_decay"], group["momentum"] = 1, 0, 0
    run.set(lr=0.5, weight_decay=0.01, momentum=0.9)
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.5, 0.01, 0.9)


def test_an_entry_of_some_groups_is_changed_in_those():
    run = Run("adamw-groups")
    run.optimizer.param_groups[1]["warmth"] = 3.0
    change = run.set(warmth=4)
    assert [(item.group, item.applied) for item in change.changes] == [(1, 4.0)]
    with pytest.raises(NotPossible, match="There is no hyperparameter 'warmth'"):
        run.set(group=0, warmth=5)


def test_clipping_is_set_and_taken_off():
    run = Run(clip=None)
    change = run.set(grad_clip_norm=2)
    assert run.found.grad_clip_norm == 2.0
    assert (change.changes[0].before, change.changes[0].group) == (0.0, None)
    run.set(grad_clip_norm=0)
    assert run.found.grad_clip_norm is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -0.1}, "lr is -0.1; it must be at least 0."),
        ({"lr": math.nan}, "lr is nan; it takes a number."),
        ({"lr": math.inf}, "lr is inf; it takes a number."),
        ({"lr": "0.1"}, "lr is '0.1'; it takes a number."),
        ({"lr": True}, "lr is True; it takes a number."),
        ({"weight_decay": -1}, "weight_decay is -1; it must be at least 0."),
        ({"betas.0": -0.5}, "betas.0 is -0.5; it must be at least 0 and below 1."),
        ({"betas.0": 1.0}, "betas.0 is 1.0; it must be at least 0 and below 1."),
        ({"betas.1": 1.5}, "betas.1 is 1.5; it must be at least 0 and below 1."),
        ({"grad_clip_norm": -1.0}, "grad_clip_norm is -1.0; it must be at least 0."),
        ({"layers": 2.5}, "layers is 2.5; it takes a whole number."),
        ({"layers": 9}, "layers is 9; it must be from 1 to 4."),
        ({"temperature": 1.5}, "temperature is 1.5; it must be at most 1."),
        ({"augment": 1}, "augment is 1; it takes true or false."),
        ({"mode": 3}, "mode is 3; it takes a text."),
        ({"amsgrad": True}, "There is no hyperparameter 'amsgrad'."),
        ({"initial_lr": 0.1}, "There is no hyperparameter 'initial_lr'."),
        ({"betas": 0.1}, "There is no hyperparameter 'betas'."),
        ({"params": 1}, "There is no hyperparameter 'params'."),
        ({}, "Nothing to change was named. Name a value, such as lr=0.001."),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_changes_nothing(values, message):
    run = Run("adamw-groups", "StepLR")
    run.tunables.get("layers", 2, 1, 4)
    run.tunables.get("temperature", 0.5, None, 1.0)
    run.tunables.get("augment", False, None, None)
    run.tunables.get("mode", "fast", None, None)
    table, state = run.found.table(), copy.deepcopy(run.found.state())
    # What is right is not applied either, whether it is named before or after.
    both = {"eps": 1e-4, **values, "weight_decay": values.get("weight_decay", 0.7)}
    for named in (values, both if values else {}):
        with pytest.raises(NotPossible) as caught:
            run.found.change(SetHyperparameters(values=named))
        assert str(caught.value).startswith(message)
        assert run.found.table() == table
        assert run.found.state() == state


def test_an_unknown_name_lists_what_there_is():
    run = Run("adamw-groups", "StepLR")
    run.tunables.get("mixup", 0.5, None, None)
    with pytest.raises(NotPossible) as caught:
        run.set(learning_rate=0.1)
    listed = str(caught.value).partition("There are: ")[2].rstrip(".").split(", ")
    assert listed == sorted(listed)
    assert {"lr", "weight_decay", "betas.0", "betas.1", "grad_clip_norm", "mixup"} <= set(listed)
    assert not {"params", "initial_lr", "amsgrad", "betas"} & set(listed)


@pytest.mark.parametrize("group", [-1, 2])
@pytest.mark.parametrize("hold", [None, True, False])
def test_a_group_that_is_not_there_is_refused(group, hold):
    run = Run("adamw-groups", "StepLR")
    table = run.found.table()
    with pytest.raises(NotPossible) as caught:
        run.set(group=group, hold=hold, lr=0.5)
    assert str(caught.value) == (
        f"There is no parameter group {group}: the optimizer has 2, counted from 0."
    )
    assert run.found.table() == table
    assert run.found.lr_owner == "scheduler"


def test_a_refused_release_releases_nothing():
    run = Run(scheduler="StepLR")
    run.set(lr=0.5, hold=True)
    with pytest.raises(NotPossible):
        run.set(lr=-1.0, hold=False)
    assert run.step(3) == [[0.5]] * 3
    with pytest.raises(NotPossible):
        Run(scheduler="StepLR").set(weight_decay="no", hold=True)


def test_every_value_within_the_bounds_can_be_trained_with():
    run = Run("adamw-groups", clip=1.0)
    for row in run.found.table():
        for value in (row.low, row.high):
            if value is not None:
                run.set(group=row.group, **{row.name.replace(".", "_dot_"): value})
                run.step()
                assert torch.isfinite(run.model.weight).all(), (row.name, value)
        run.set(group=row.group, **{row.name.replace(".", "_dot_"): row.value})


# Tunables


def test_a_tunable_is_its_default_until_it_is_changed():
    run = Run()
    assert run.tunables.get("mixup", 0.5, 0.0, 1.0) == 0.5
    change = run.set(mixup=1)
    (item,) = change.changes
    assert (item.group, item.before, item.requested, item.applied) == (None, 0.5, 1, 1.0)
    value = run.tunables.get("mixup", 0.5, 0.0, 1.0)
    assert (value, type(value)) == (1.0, float)


@pytest.mark.parametrize(
    ("default", "given", "wanted"),
    [(2, 3.0, 3), (0.5, 1, 1.0), (True, False, False), ("fast", "slow", "slow")],
)
def test_a_tunable_keeps_the_type_of_its_default(default, given, wanted):
    run = Run()
    run.tunables.get("it", default, None, None)
    run.set(it=given)
    value = run.tunables.get("it", default, None, None)
    assert (value, type(value)) == (wanted, type(wanted))


@pytest.mark.parametrize("default", [None, [1], torch.tensor(1.0), 1j])
def test_a_tunable_of_another_type_is_refused_by_name(default):
    with pytest.raises(NotPossible, match=r"The tunable 'it' has a \w+ as default"):
        Tunables().get("it", default, None, None)


def test_the_first_time_a_tunable_is_read_is_told():
    tunables, told = Tunables(), []
    tunables.on_registered = lambda: told.append(sorted(tunables.known()))
    tunables.get("one", 1, None, None)
    tunables.get("one", 1, None, None)
    tunables.get("two", 2, None, None)
    assert told == [["one"], ["one", "two"]]


def test_values_that_are_loaded_wait_until_they_are_registered():
    tunables = Tunables()
    tunables.get("known", 1, None, None)
    tunables.load({"known": 2, "later": 0.25})
    assert tunables.get("known", 1, None, None) == 2
    # Saved again before the script came to it, it is kept.
    assert tunables.values() == {"known": 2, "later": 0.25}
    assert tunables.get("later", 0.5, None, None) == 0.25
    assert tunables.known()["later"].default == 0.5


def test_from_a_checkpoint_that_knows_no_tunable_it_is_its_default_again(tmp_path):
    run = Run()
    written = run.saved(tmp_path / "initial.pt")
    run.tunables.get("mixup", 0.5, None, None)
    run.set(mixup=0.9)
    run.tunables.load({"mixup": 0.9, "other": 3})
    run.load(written.path)
    assert run.tunables.get("mixup", 0.5, None, None) == 0.5
    assert run.tunables.get("other", 1, None, None) == 1


# The table


def test_the_table_has_every_entry_with_its_group_and_bounds():
    run = Run("adamw-groups", "OneCycleLR", clip=1.5)
    run.tunables.get("layers", 2, 1, 4)
    rows = {(row.name, row.group): (row.value, row.low, row.high) for row in run.found.table()}
    names = {name for name, _ in rows}
    assert names == {"lr", "betas.0", "betas.1", "eps", "weight_decay", "grad_clip_norm", "layers"}
    assert rows["weight_decay", 0] == (0.01, 0.0, None)
    assert rows["weight_decay", 1] == (0.0, 0.0, None)
    assert rows["grad_clip_norm", None] == (1.5, 0.0, None)
    assert rows["layers", None] == (2, 1, 4)
    assert rows["lr", 0][0] == run.rates()[0]


def test_the_table_shows_what_is_in_force():
    run = Run(scheduler="StepLR")
    run.set(lr=0.5)
    run.step(4)
    rows = {row.name: row.value for row in run.found.table()}
    assert rows["lr"] == run.rates()[0] == run.optimizer.param_groups[0]["lr"]
    assert rows["grad_clip_norm"] == 0.0


def test_what_an_optimizer_brings_itself_can_be_changed_too():
    model = nn.Linear(3, 2)
    found = Hyperparameters(
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.1),
        scheduler=None,
        grad_clip_norm=None,
        tunables=Tunables(),
    )
    assert {row.name for row in found.table()} >= {"alpha", "momentum", "eps", "lr"}
    found.change(SetHyperparameters(values={"alpha": 0.5}))
    assert {row.value for row in found.table() if row.name == "alpha"} == {0.5}
