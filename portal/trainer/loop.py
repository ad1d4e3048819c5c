"""The training loop: one object from its first step to its last, and everything needed to go on from any of them."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from portal.trainer import checkpoint, losses, numerics, random_state
from portal.trainer.environment import capture_environment
from portal.trainer.errors import BadInput, NotFinite, writing
from portal.trainer.model import load_model
from portal.trainer.optimizer import NamedOptimizer
from portal.trainer.parallel import Parallel, whole
from portal.trainer.rows import Batch, RowFile
from portal.trainer.schedule import learning_rate
from portal.trainer.settings import Settings

Stop = Callable[[], bool]
Saved = Callable[[int, Path], None]


class Trainer:
    """A job in progress; ``step`` is the last one that was made."""

    def __init__(self, settings: Settings) -> None:
        numerics.apply(settings.training.numerics)
        self.settings, self.training = settings, settings.training
        self.parallel = Parallel(settings.parallel, settings.device)
        self.mine = self.parallel.share(self.training.rows_per_step)
        base = settings.resume or settings.checkpoint
        state = checkpoint.read_state(base)
        self.step = self._start(base, state)
        dtype = torch.bfloat16 if self.training.precision == "bfloat16" else torch.float32
        self.model = load_model(base, dtype, self.training.attention)
        self._check_lengths()
        self.rows = RowFile(settings, self.model.get_input_embeddings().num_embeddings)
        self.network = self.parallel.wrap(self.model)
        self.optimizer = NamedOptimizer(self.model, self.training.optimizer)
        self.tokens, self.skipped = state.tokens, state.skipped
        self.updates = state.updates
        # Before the first update, an optimizer remembers nothing.
        self.missing = [part for part in state.missing if part != "rng" and (part, self.step) != ("optimizer", 0)]
        if state.optimizer is not None:
            self.optimizer.load(state.optimizer, str(base / checkpoint.OPTIMIZER))
        if not self._restore_random(state.rng or {}):
            self.missing.append("rng")
        # The optimizer's tensors are the largest; nothing holds them twice from here on.
        del state
        self.environment = capture_environment(self.training, self.parallel)

    def train(self, stop: Stop, saved: Saved | None = None) -> dict[str, Any]:
        """All steps that are left, or those until ``stop`` says so; the content of result.json.

        ``saved`` hears of every checkpoint. Raises ``NotFinite`` and ``DiskFull``.
        """
        first, begun, spent, tokens = self.step + 1, time.monotonic(), 0.0, 0
        self._begin_output()
        result: dict[str, Any] = {"outcome": "succeeded", "first_step": first, "missing": self.missing}
        try:
            with writing(self.settings.output, "metrics"), self._metrics() as file:
                while self.step < self.settings.last_step:
                    if self.parallel.any(stop()):
                        result["outcome"] = "preempted"
                        break
                    numbers = self.make_step(self.step + 1)
                    spent, tokens = spent + numbers["seconds"], tokens + self._targets
                    self._write_metrics(file, numbers)
                    if self._is_due(self.step):
                        self.save(saved)
            if self.step >= first or result["outcome"] == "succeeded":
                self.save(saved)
        except NotFinite as error:
            result |= {"outcome": "failed", "message": str(error)}
            raise
        finally:
            result |= {"last_step": self.step, "skipped_updates": [s for s in self.skipped if s >= first]}
            result |= {"steps_per_second": (self.step - first + 1) / spent if spent else None}
            result |= {"tokens_per_second": tokens / spent if spent else None, "seconds": time.monotonic() - begun}
            if self.parallel.speaks:
                with writing(self.settings.output, "result.json"):
                    checkpoint.write_json(self.settings.output / "result.json", result)
        return result

    def make_step(self, step: int) -> dict[str, float]:
        """One update, and its numbers: losses before it, gradient norm before clipping, weight norm after it.

        A gradient that is not finite is recorded and not applied, or ends the job, as the settings say.
        """
        begun = time.perf_counter()
        batch, rate = self.rows.batch(step), learning_rate(self.training.schedule, step)
        sums = self._backward(batch)
        norm = self._clip()
        if not math.isfinite(norm):
            if self.training.when_not_finite == "stop":
                raise NotFinite(f"The gradient of step {step} is not finite (its norm is {norm}).")
            self.skipped.append(step)
        else:
            self.optimizer.step(rate)
            self.updates = None if self.updates is None else self.updates + 1
        self.optimizer.torch.zero_grad(set_to_none=True)
        self.step = step
        self.tokens = None if self.tokens is None else self.tokens + self._targets
        numbers = {"step": step} | losses.reported(sums, batch, self.training.loss, self.settings.rows.source_names)
        numbers |= {"grad_norm": norm, "weight_norm": self._weight_norm(), "lr": rate}
        if self.tokens is not None:
            numbers["tokens"] = self.tokens
        return numbers | {"seconds": time.perf_counter() - begun}

    def save(self, saved: Saved | None = None) -> None:
        """Write the checkpoint of the current step, if it was not yet; every process takes part."""
        place = self.settings.output / "checkpoints" / f"step-{self.step:07d}"
        if place.is_dir():
            return
        parameters = {n: whole(p).detach().cpu().contiguous() for n, p in self.optimizer.names.items()}
        stored = self.model.state_dict().keys()
        buffers = {n: b.detach().cpu().contiguous() for n, b in self.model.named_buffers() if n in stored}
        moments, generators = self.optimizer.state(), self._random_of_all()
        if self.parallel.speaks:
            weights = checkpoint.released_names(self.model, parameters | buffers)
            like = self.settings.checkpoint
            checkpoint.write_checkpoint(place, weights, moments, generators, self.state(), like)
            print(f"step {self.step}: checkpoint saved", flush=True)
            if saved is not None:
                saved(self.step, place)
        self.parallel.wait()

    def state(self) -> dict[str, Any]:
        """trainer_state.json: what safetensors cannot hold."""
        following = self.step + 1
        schedule = self.training.schedule
        return {
            "step": self.step,
            "tokens": self.tokens,
            "updates": self.updates,
            "skipped_updates": self.skipped,
            "scheduler": {**schedule, "step": self.step, "next_lr": learning_rate(schedule, following)},
            "optimizer": {**self.optimizer.described(), "clip_grad_norm": self.training.clip},
            "data_position": {"next_row": self.rows.position(following), "rows_sha256": self.rows.sha256},
            "rng": {"file": checkpoint.RNG, "processes": self.parallel.world},
            "environment": {
                "trainer_sha256": self.environment["trainer"]["sha256"],
                "torch": self.environment["packages"]["torch"],
                "transformers": self.environment["packages"]["transformers"],
                "threads": self.environment["cpu"]["threads"],
                "cpu_capability": self.environment["cpu"]["capability"],
                "precision": self.training.precision,
            },
        }

    @property
    def _targets(self) -> int:
        return self.training.rows_per_step * (self.training.row_length - 1)

    def _start(self, base: Path, state: checkpoint.State) -> int:
        """The step that the state to start from is after."""
        first, last = self.settings.first_step, self.settings.last_step
        if self.settings.resume is None:
            if state.step not in (None, first - 1):
                raise BadInput(f"{base} is the state after step {state.step}, but the first step to train is {first}.")
            return first - 1
        if state.step is None or not first - 1 <= state.step <= last:
            raise BadInput(f"{base} is the state after step {state.step}, which is not within steps {first} to {last}.")
        return state.step

    def _check_lengths(self) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if isinstance(limit, int) and self.training.row_length - 1 > limit:
            raise BadInput(f"Rows of {self.training.row_length} ids are longer than the model's {limit} positions.")

    def _restore_random(self, stored: random_state.Tensors) -> bool:
        """Set all generators; False where one that training draws from had to begin anew."""
        rank = self.parallel.rank
        random_state.seed_all(self.training.seed + 1_000_003 * self.step + rank)
        prefix = f"rank{rank}." if rank else ""
        own = {
            n.removeprefix(prefix): t for n, t in stored.items() if n.startswith(prefix) and ("." in n) == bool(rank)
        }
        absent = random_state.restore(own, self.parallel.device)
        # Every process has to come to the same answer.
        return not self.parallel.any(any(name.startswith("torch") for name in absent))

    def _random_of_all(self) -> random_state.Tensors:
        found = {}
        for name, tensor in random_state.capture(self.parallel.device).items():
            for rank, raw in enumerate(self.parallel.each(tensor.view(torch.uint8))):
                found[f"rank{rank}.{name}" if rank else name] = raw.view(tensor.dtype)
        return found

    def _backward(self, batch: Batch) -> torch.Tensor:
        """Gradients of the batch; the summed loss of every row, float64 on the CPU."""
        device, size = self.parallel.device, self.training.micro_batch
        counts = batch.counted.sum(1)
        targets, rows = int(counts.sum()), len(counts)
        sums = torch.zeros(rows, dtype=torch.float64, device=device)
        for begin in range(self.mine.start, self.mine.stop, size):
            place = slice(begin, min(begin + size, self.mine.stop))
            self.parallel.gather_gradients(place.stop == self.mine.stop)
            ids = torch.from_numpy(batch.ids[place]).to(device)
            counted = torch.from_numpy(batch.counted[place]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.training.precision == "bf16-mixed"):
                logits = self.network(input_ids=ids[:, :-1], use_cache=False).logits
            own = losses.row_sums(logits, ids, counted)
            share = torch.from_numpy(counts[place]).to(device)
            loss = losses.minimised(own, share, self.training.loss, rows, targets)
            # Processes average their gradients; what is wanted is the sum of their parts.
            (loss * self.parallel.world).backward()
            sums[place] = own.detach().double()
        return self.parallel.total(sums).cpu()

    def _clip(self) -> float:
        parameters = list(self.optimizer.names.values())
        each = None if self.parallel.device.type == "cuda" else False
        if self.training.clip is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=each)
        else:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.training.clip, foreach=each)
        return float(whole(norm))

    def _weight_norm(self) -> float:
        squares = [
            whole(torch.linalg.vector_norm(p.detach(), dtype=torch.float64)) for p in self.optimizer.names.values()
        ]
        return float(torch.linalg.vector_norm(torch.stack(squares)))

    def _is_due(self, step: int) -> bool:
        return self.settings.save_every is not None and step % self.settings.save_every == 0

    def _begin_output(self) -> None:
        if not self.parallel.speaks:
            return
        with writing(self.settings.output, "results"):
            places = self.settings.output / "checkpoints"
            places.mkdir(parents=True, exist_ok=True)
            for left in places.glob(".*.partial"):
                shutil.rmtree(left)
            checkpoint.write_json(self.settings.output / "environment.json", self.environment)
        lacking = f", without {' and '.join(self.missing)}" if self.missing else ""
        print(
            f"Training steps {self.step + 1} to {self.settings.last_step} on {self.parallel.device}"
            f" ({self.parallel.world} processes, {self.training.precision}){lacking}",
            flush=True,
        )
        self._said = 0.0

    def _metrics(self) -> IO[str]:
        path = self.settings.output / "metrics.jsonl" if self.parallel.speaks else Path("/dev/null")
        return path.open("w", encoding="utf-8")

    def _write_metrics(self, file: IO[str], numbers: dict[str, float]) -> None:
        if not self.parallel.speaks:
            return
        file.write(json.dumps({name: _spelled(value) for name, value in numbers.items()}) + "\n")
        file.flush()
        now = time.monotonic()
        # A line a second is what people can follow; what went wrong is always said.
        odd = not math.isfinite(numbers["grad_norm"])
        if odd or now - self._said >= 1 or self.step == self.settings.last_step:
            self._said = now
            speed = self._targets / numbers["seconds"]
            note = "  not finite: update skipped" if odd else ""
            print(
                f"step {self.step}  loss {numbers['loss']:.4f}  grad norm {numbers['grad_norm']:.3g}"
                f"  lr {numbers['lr']:.3g}  {speed:,.0f} tokens/s{note}",
                flush=True,
            )


def _spelled(value: float) -> float | str:
    """JSON has no word for these."""
    if isinstance(value, int) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
