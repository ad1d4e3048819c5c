"""The models of the Pythia suite and what their names mean.

Sizes, widths and learning rates are those of the README's table; parameter counts those of the model cards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from portal.errors import UsageError

_NAME = re.compile(
    r"eleutherai/pythia-(?P<size>[0-9.]+[mb])(?P<deduped>-deduped)?(?:-seed(?P<seed>[1-9]))?(?P<v0>-v0)?"
)

_SHAPES: dict[str, tuple[int | None, int, int, int, float]] = {
    "14m": (None, 6, 128, 4, 1e-3),
    "31m": (None, 6, 256, 8, 1e-3),
    "70m": (70_426_624, 6, 512, 8, 1e-3),
    "160m": (162_322_944, 12, 768, 12, 6e-4),
    "410m": (405_334_016, 24, 1024, 16, 3e-4),
    "1b": (1_011_781_632, 16, 2048, 8, 3e-4),
    "1.4b": (1_414_647_808, 24, 2048, 16, 2e-4),
    "2.8b": (2_775_208_960, 32, 2560, 32, 1.6e-4),
    "6.9b": (6_857_302_016, 32, 4096, 32, 1.2e-4),
    "12b": (11_846_072_320, 36, 5120, 40, 1.2e-4),
}
"""Parameters, layers, width, heads, learning rate by size."""

RELABELLED = ("160m", "410m", "1.4b")
"""v0 sizes trained with 4 M tokens a step, whose branches were renamed as if with 2 M (README, issue 39)."""


@dataclass(frozen=True)
class Model:
    """One model of the suite."""

    size: str
    deduped: bool
    seed: int | None
    v0: bool

    @property
    def run(self) -> str:
        """Its run name."""
        return f"eleutherai/{self._base}{'-v0' if self.v0 else ''}"

    @property
    def repository(self) -> str:
        """Its repository on the Hub."""
        return f"EleutherAI/{self._base}{'-v0' if self.v0 else ''}"

    @property
    def title(self) -> str:
        """Its name for people."""
        words = ["Pythia", self.size.upper()]
        words += ["deduped"] if self.deduped else []
        words += [f"seed {self.seed}"] if self.seed else []
        return " ".join(words + (["v0"] if self.v0 else []))

    @property
    def _base(self) -> str:
        return f"{self.plain_name}{f'-seed{self.seed}' if self.seed else ''}"

    @property
    def plain_name(self) -> str:
        """As config files and evaluation folders spell it."""
        return f"pythia-{self.size}{'-deduped' if self.deduped else ''}"

    @property
    def config_file(self) -> str:
        """Its training config in the repository."""
        return f"models/{self.size.upper()}/{self.plain_name}.yml"

    @property
    def dataset(self) -> str:
        """The preshuffled data it read, on the Hub."""
        return f"EleutherAI/pile-{'deduped' if self.deduped else 'standard'}-pythia-preshuffled"

    @property
    def label_factor(self) -> int:
        """Number in a branch name divided by the real step."""
        return 2 if self.v0 and self.size in RELABELLED else 1

    @property
    def rows_per_step(self) -> int:
        """Rows of 2,048 tokens in a batch."""
        return 1024 * self.label_factor

    @property
    def last_step(self) -> int:
        """Real optimizer steps."""
        return 143_000 // self.label_factor

    @property
    def dtype(self) -> str:
        """Of the weights on the Hub."""
        return "bfloat16" if self.size == "1b" else "float16"

    @property
    def has_neox_checkpoint(self) -> bool:
        """Whether a final checkpoint with optimizer state is released apart."""
        return self.deduped and not self.v0 and not self.seed

    @property
    def parameters(self) -> int | None:
        """All parameters, embeddings included; None where the card was not read."""
        return _SHAPES[self.size][0]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return _SHAPES[self.size][1]

    @property
    def width(self) -> int:
        """Hidden size."""
        return _SHAPES[self.size][2]

    @property
    def heads(self) -> int:
        """Attention heads."""
        return _SHAPES[self.size][3]

    @property
    def learning_rate(self) -> float:
        """Peak learning rate of the README's table."""
        return _SHAPES[self.size][4]


def model_of(run: str) -> Model:
    """The model that a run name stands for; UsageError when the suite has none of that name."""
    found = _NAME.fullmatch(run)
    if found is None or found["size"] not in _SHAPES:
        raise UsageError(
            f"The Pythia suite has no model {run!r}.",
            f"Names are eleutherai/pythia-SIZE[-deduped][-seedN][-v0] with SIZE one of {', '.join(_SHAPES)}.",
        )
    return Model(
        found["size"], bool(found["deduped"]), int(found["seed"]) if found["seed"] else None, bool(found["v0"])
    )


def runs_in(source: Path) -> str:
    """The only run whose config lies in ``source``; UsageError when there are several or none."""
    found = sorted(f"eleutherai/{path.stem}" for path in source.glob("models/*/pythia-*.yml"))
    if len(found) != 1:
        told = f"holds {', '.join(found)}" if found else "holds no models/SIZE/pythia-SIZE.yml"
        raise UsageError(f"{source} {told}.", "Say which one with --run, e.g. --run eleutherai/pythia-70m.")
    return found[0]
