"""What a run's published config says about its training, in the words of the trainer; what it does not say stays unknown.

Known are configs that carry the trainer's own ``training`` object, and those of GPT-NeoX (Pythia), OLMo, and plain
lists of constants as papers and scripts state them (Amber). Nothing is taken from a default of anybody's code: where
a config is silent, the person who submits the job is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal.catalog.configs import config_at
from portal.catalog.facts import ReleaseFacts
from portal.catalog.hyperparameters import flatten


@dataclass(frozen=True)
class Setting:
    """One value with where it stands."""

    value: Any
    origin: str
    """Sentence for people: ``configs/main.yaml: training.clip``."""


Settings = dict[str, Setting]
"""By the trainer's dotted names: ``schedule.peak``, ``optimizer.betas``, ``clip``, ..."""


def settings_of(facts: ReleaseFacts, step: int) -> Settings:
    """What is published about the training of ``step``; missing keys are unknown."""
    known: Settings = {}
    stage = facts.stage_at(step)
    geometry = {
        "sequence_length": stage.sequence_length if stage else None,
        "row_length": stage.row_length if stage else None,
        "rows_per_step": stage.rows_per_step if stage else None,
    }
    known |= {key: Setting(value, "the run's manifest") for key, value in geometry.items() if value is not None}
    config = config_at(facts, step)
    if config is None or not config.values:
        return known
    source = config.file.path if config.file else "the run's config"
    for read in (_read_own, _read_neox, _read_olmo, _read_constants):
        if found := read(config.values, facts, step):
            named = {key: Setting(value, f"{source}: {place}") for key, (value, place) in found.items()}
            # What the manifest says of the shape of a batch is what the catalog reads rows by.
            return named | known
    return known


def beyond_the_trainer(facts: ReleaseFacts, step: int) -> list[str]:
    """What the run's config states and this trainer does not do: a resume then differs from the run in this."""
    config = config_at(facts, step)
    values = config.values if config else {}
    found = []
    if values.get("softmax_auxiliary_loss") is True:
        found.append(
            f"an auxiliary softmax loss (z-loss) of weight {values.get('auxiliary_loss_multiplier', 'unknown')}"
        )
    fp16 = values.get("fp16")
    if isinstance(fp16, Mapping) and fp16.get("enabled"):
        found.append("fp16 with a scaled loss")
    optimizer = values.get("optimizer")
    if isinstance(optimizer, Mapping) and optimizer.get("decay_embeddings") is False:
        found.append("embeddings without weight decay")
    return found


Found = dict[str, tuple[Any, str]]
Reader = Callable[[Mapping[str, Any], ReleaseFacts, int], Found]


def _read_own(values: Mapping[str, Any], facts: ReleaseFacts, step: int) -> Found:  # noqa: ARG001 - a Reader
    training = values.get("training")
    if isinstance(training, Mapping):
        return {key: (value, f"training.{key}") for key, value in flatten(training).items()}
    schedule, optimizer = values.get("scheduler"), values.get("optimizer")
    if not isinstance(schedule, Mapping) or not isinstance(optimizer, Mapping) or "class" not in optimizer:
        return {}
    found: Found = {f"schedule.{key}": (value, f"scheduler.{key}") for key, value in schedule.items()}
    for key in ("class", "betas", "eps", "weight_decay", "no_decay"):
        if key in optimizer:
            found[f"optimizer.{key}"] = (optimizer[key], f"optimizer.{key}")
    if "clip" in optimizer:
        found["clip"] = (optimizer["clip"], "optimizer.clip")
    for key, name in {"precision": "precision", "seed": "seed", "threads": "numerics.threads"}.items():
        if key in values:
            found[name] = (values[key], key)
    return found


def _read_neox(values: Mapping[str, Any], facts: ReleaseFacts, step: int) -> Found:  # noqa: ARG001 - a Reader
    """GPT-NeoX: keys with dashes; rates and lengths in steps, the warm-up as a share of them."""
    optimizer = values.get("optimizer")
    if not isinstance(optimizer, Mapping) or "params" not in optimizer or "lr-decay-style" not in values:
        return {}
    params = optimizer["params"]
    found: Found = {}
    if optimizer.get("type") == "Adam":
        # Its Adam decays weights apart from the gradient: apex's FusedAdam with adam_w_mode, torch's AdamW.
        found["optimizer.class"] = ("AdamW", "optimizer.type (its Adam is torch's AdamW)")
        found["optimizer.no_decay"] = ("vectors", "GPT-NeoX spares norms and biases")
    for key in ("betas", "eps"):
        if key in params:
            found[f"optimizer.{key}"] = (params[key], f"optimizer.params.{key}")
    _copy(found, values, {"weight-decay": "optimizer.weight_decay", "gradient_clipping": "clip"})
    kind = {"cosine": "cosine", "linear": "linear", "constant": "constant"}.get(str(values["lr-decay-style"]))
    if kind is not None:
        found["schedule.kind"] = (kind, "lr-decay-style")
    if "lr" in params:
        found["schedule.peak"] = (params["lr"], "optimizer.params.lr")
    _copy(found, values, {"min_lr": "schedule.floor", "lr-decay-iters": "schedule.decay_to"})
    if "warmup" in values and "lr-decay-iters" in values:
        warmup = round(float(values["warmup"]) * int(values["lr-decay-iters"]))
        found["schedule.warmup_steps"] = (warmup, "warmup x lr-decay-iters")
    return found


def _read_olmo(values: Mapping[str, Any], facts: ReleaseFacts, step: int) -> Found:
    """OLMo: lengths of the schedule in steps or tokens; a final rate as a share of the peak."""
    optimizer, scheduler = values.get("optimizer"), values.get("scheduler")
    if not isinstance(optimizer, Mapping) or not isinstance(scheduler, Mapping) or "name" not in scheduler:
        return {}
    found: Found = {}
    if optimizer.get("name") == "adamw":
        found["optimizer.class"] = ("AdamW", "optimizer.name")
    if optimizer.get("decay_norm_and_bias") is True and optimizer.get("decay_embeddings") is not False:
        found["optimizer.no_decay"] = ("none", "optimizer.decay_norm_and_bias")
    elif optimizer.get("decay_norm_and_bias") is False and optimizer.get("decay_embeddings") is not False:
        found["optimizer.no_decay"] = ("vectors", "optimizer.decay_norm_and_bias")
    for key in ("betas", "eps", "weight_decay"):
        if key in optimizer:
            found[f"optimizer.{key}"] = (optimizer[key], f"optimizer.{key}")
    found |= _olmo_schedule(optimizer, scheduler, facts, step)
    _copy(found, values, {"max_grad_norm": "clip", "seed": "seed"})
    precision = {"amp_bf16": "bf16-mixed", "fp32": "float32"}.get(str(values.get("precision")))
    if precision is not None:
        found["precision"] = (precision, "precision")
    return found


def _olmo_schedule(optimizer: Mapping[str, Any], scheduler: Mapping[str, Any], facts: ReleaseFacts, step: int) -> Found:
    found: Found = {}
    kinds = {"cosine_with_warmup": "cosine", "linear_with_warmup": "linear", "constant": "constant"}
    kind = kinds.get(str(scheduler["name"]))
    if kind is not None:
        found["schedule.kind"] = (kind, "scheduler.name")
    peak = optimizer.get("learning_rate")
    if peak is not None:
        found["schedule.peak"] = (peak, "optimizer.learning_rate")
        if "alpha_f" in scheduler:
            found["schedule.floor"] = (float(peak) * float(scheduler["alpha_f"]), "learning_rate x scheduler.alpha_f")
    unit = _tokens_per_step(facts, step) if scheduler.get("units") == "tokens" else 1
    for key, name in {"t_warmup": "schedule.warmup_steps", "t_max": "schedule.decay_to"}.items():
        if key in scheduler and unit:
            told = "" if unit == 1 else f" / {unit} tokens a step"
            found[name] = (int(float(scheduler[key])) // unit, f"scheduler.{key}{told}")
    stage = facts.stage_at(step)
    if stage is not None and stage.first_step > 1:
        found["schedule.start_step"] = (stage.first_step - 1, "the stage's first step")
    return found


_CONSTANTS = {
    "optimizer": "optimizer.class",
    "weight_decay": "optimizer.weight_decay",
    "eps": "optimizer.eps",
    "adam_eps": "optimizer.eps",
    "learning_rate": "schedule.peak",
    "lr": "schedule.peak",
    "min_learning_rate": "schedule.floor",
    "min_lr": "schedule.floor",
    "lr_schedule": "schedule.kind",
    "lr_scheduler_type": "schedule.kind",
    "warmup_steps": "schedule.warmup_steps",
    "gradient_clipping": "clip",
    "max_grad_norm": "clip",
    "grad_clip": "clip",
    "precision": "precision",
}


def _read_constants(values: Mapping[str, Any], facts: ReleaseFacts, step: int) -> Found:  # noqa: ARG001 - a Reader
    """A flat list of constants, as scripts and papers have them."""
    found: Found = {}
    for key, name in _CONSTANTS.items():
        if key in values and not isinstance(values[key], Mapping):
            found[name] = (values[key], key)
    if "beta1" in values and "beta2" in values:
        found["optimizer.betas"] = ([values["beta1"], values["beta2"]], "beta1, beta2")
    elif "adam_beta1" in values and "adam_beta2" in values:
        found["optimizer.betas"] = ([values["adam_beta1"], values["adam_beta2"]], "adam_beta1, adam_beta2")
    named = found.pop("optimizer.class", None)
    written = {"adamw": "AdamW", "adam": "Adam", "adamw_torch": "AdamW"}.get(str(named[0]).lower()) if named else None
    if named and written:
        found["optimizer.class"] = (written, named[1])
    return found


def _tokens_per_step(facts: ReleaseFacts, step: int) -> int | None:
    before, after = facts.tokens_after(max(step - 1, 0)), facts.tokens_after(step)
    return after - before if before is not None and after is not None and after > before else None


def _copy(found: Found, values: Mapping[str, Any], names: Mapping[str, str]) -> None:
    found.update({name: (values[key], key) for key, name in names.items() if key in values})
