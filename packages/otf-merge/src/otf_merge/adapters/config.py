"""PEFT's description of a low-rank adapter: what its factors are multiplied with."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checkpoints.carried import read_json
from ..checkpoints.weights_folder import ADAPTER_CONFIG
from ..errors import InputsDiffer, InvalidInputs, UnreadableInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..checkpoints.checkpoint import Checkpoint

#: Initialisations that change the base's own weights, so that a product is no whole delta.
_MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
#: Kinds of low-rank adapter whose factors mean something else.
_UNSUPPORTED = (
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
)
#: What must be the same in all adapters that become one, as one setting of it is left.
_SAME = (
    "alora_invocation_tokens",
    "bias",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "use_dora",
)
#: Which modules of the base have an adapter, in PEFT's words.
_WHERE = ("target_modules", "layers_to_transform", "layers_pattern", "exclude_modules")


@dataclass(frozen=True)
class AdapterConfig:
    """What `adapter_config.json` says, and whose it is."""

    label: str
    values: Mapping[str, Any]

    @property
    def transposes(self) -> bool:
        """Whether the base's matrices have their inputs first."""
        return bool(self.values.get("fan_in_fan_out"))

    def scaling(self, module: str, rank: int) -> float:
        """What the product of the module's factors is multiplied with.

        `lora_alpha / r`, with rank-stabilised LoRA `lora_alpha / sqrt(r)`; the alpha of a module
        may be one of `alpha_pattern`.
        """
        alphas = self.values.get("alpha_pattern") or {}
        key = self._matching(alphas, module)
        alpha = alphas[key] if key is not None else self.values.get("lora_alpha", 8)
        try:
            return float(alpha) / (math.sqrt(rank) if self.values.get("use_rslora") else rank)
        except (TypeError, ValueError):
            raise UnreadableInput(
                f"`{self.label}` has the lora_alpha {alpha!r} for `{module}`, which is no number. "
                "Correct its adapter_config.json."
            ) from None

    def require_supported(self) -> None:
        """Raise `InvalidInputs` for an adapter of another kind than LoRA as its paper has it."""
        kind = self.values.get("peft_type", "LORA")
        if kind != "LORA":
            raise InvalidInputs(
                f"`{self.label}` is an adapter of the type {kind}, and only low-rank ones (LORA) are "
                "merged. Merge it with PEFT."
            )
        start = self.values.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_MOVES_BASE):
            raise InvalidInputs(
                f"`{self.label}` was initialised by {start}, which moves weights of the base into the "
                "adapter: its product is not all that was learned. Save it as plain LoRA first, with "
                "PEFT's `path_initial_model_for_weight_conversion`."
            )
        for key in _UNSUPPORTED:
            if self.values.get(key):
                raise InvalidInputs(
                    f"`{self.label}` uses `{key}`, whose factors are not those of plain LoRA and are "
                    "not merged here. Merge its delta into the base with PEFT, and then the models."
                )

    def _matching(self, patterns: Iterable[str], module: str) -> str | None:
        """The first pattern that fits the module's whole path, or the end of it, as in PEFT."""
        for pattern in patterns:
            try:
                if re.match(rf"(.*\.)?({pattern})$", module):
                    return pattern
            except re.error as error:
                raise UnreadableInput(
                    f"`{self.label}` has the pattern `{pattern}`, which is no regular expression "
                    f"({error}). Correct its adapter_config.json."
                ) from error
        return None


def config_of(checkpoint: Checkpoint) -> AdapterConfig | None:
    """The adapter's description: in its folder, or beside its file; None where there is none."""
    found = checkpoint.extra("adapter_config")  # noqa: S610 - a checkpoint's, not a query's
    beside = checkpoint.path.with_name(ADAPTER_CONFIG)
    if found is None and checkpoint.path.stem == "adapter_model" and beside.is_file():
        found = read_json(beside)
    if not isinstance(found, Mapping):
        return None
    return AdapterConfig(checkpoint.path.name, found)


def require_alike(configs: Sequence[AdapterConfig]) -> None:
    """Raise `InputsDiffer` where adapters do not add the same kinds of thing to the base."""
    for other in configs[1:]:
        for key in _SAME:
            mine, theirs = (_plain(it.values.get(key)) for it in (configs[0], other))
            if mine != theirs:
                raise InputsDiffer(
                    f"The adapters differ in `{key}`: {mine!r} in `{configs[0].label}`, {theirs!r} in "
                    f"`{other.label}`. One adapter cannot be both. Merge those that agree, or merge "
                    "each into the base first."
                )


def bases_of(configs: Sequence[AdapterConfig]) -> list[str]:
    """The names of the bases that the adapters were made for, each once."""
    named = [it.values.get("base_model_name_or_path") for it in configs]
    return list(dict.fromkeys(str(it) for it in named if it))


def same_places(configs: Sequence[AdapterConfig]) -> bool:
    """Whether all adapt the same modules by what they say."""
    places = [[_plain(it.values.get(key)) for key in _WHERE] for it in configs]
    return all(it == places[0] for it in places)


def only_at(modules: Sequence[str]) -> dict[str, Any]:
    """The settings that name these modules and no others."""
    return {**dict.fromkeys(_WHERE), "target_modules": sorted(modules)}


def ranks(found: Mapping[str, int]) -> dict[str, Any]:
    """The settings that give each module its rank and, with it as alpha, the scaling 1.

    The commonest rank is everybody's, others are in the patterns. A pattern also fits modules whose
    path ends like it, so that these, longer ones first, are named too.
    """
    common = max(sorted(set(found.values())), key=lambda it: list(found.values()).count(it))
    others = {module for module, rank in found.items() if rank != common}
    shadowed = {it for it in found if any(it.endswith(f".{other}") for other in others)}
    listed = sorted(others | shadowed, key=lambda it: (-len(it), it))
    patterns = {module: found[module] for module in listed}
    return {
        "r": common,
        "lora_alpha": common,
        "rank_pattern": patterns,
        "alpha_pattern": dict(patterns),
        "use_rslora": False,
    }


def _plain(value: Any) -> Any:
    """The value, of which an empty one is none and the order of a list says nothing."""
    if isinstance(value, list):
        return sorted(value, key=str) or None
    return None if value in (False, {}, "none") else value
