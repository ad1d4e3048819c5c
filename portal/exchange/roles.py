"""What a file is for, by its name: how trainers and the Hub name the parts of a checkpoint."""

from __future__ import annotations

import re
from functools import lru_cache

_OPTIMIZER_FOLDER = re.compile(r"(^|/)optim(izer)?s?/", re.IGNORECASE)
_ROLES = tuple(
    (role, re.compile(pattern, re.IGNORECASE))
    for role, pattern in (
        ("optimizer", r"optim"),
        ("scheduler", r"sched"),
        ("rng", r"rng|random_state"),
        ("data_position", r"^(trainer_state|data_position|data_state|dataloader|sampler)[^/]*$"),
        (
            "tokenizer",
            r"^(tokenizer[^/]*|special_tokens_map\.json|vocab\.(json|txt)|merges\.txt|added_tokens\.json|chat_template\.[^/]*)$",
        ),
        ("config", r"^(config|generation_config|training_args)[^/]*\.(json|ya?ml|bin)$|\.(ya?ml|toml)$"),
        (
            "weights",
            r"\.safetensors(\.index\.json)?$|^pytorch_model|^model[^/]*\.(pt|pth|bin|npz)$|^mp_rank_|\.index\.json$",
        ),
        ("code", r"\.(py|sh|cu|cpp|ipynb)$"),
        ("weights", r"\.(pt|pth|bin|ckpt|gguf|distcp)$"),
    )
)


def role_of(path: str) -> str:
    """The role of a checkpoint's file; ``other`` where its name does not tell."""
    folder, slash, name = path.rpartition("/")
    return "optimizer" if _OPTIMIZER_FOLDER.search(folder + slash) else _role_of_name(name)


@lru_cache(maxsize=4096)
def _role_of_name(name: str) -> str:
    # The files of one checkpoint are named like those of the next.
    return next((role for role, pattern in _ROLES if pattern.search(name)), "other")
