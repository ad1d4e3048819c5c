"""Checkpoints that are lost, doubled, relabelled, in other numbers than declared, or without their optimizer."""

from __future__ import annotations

import json
import struct

from tests.exchange.releases import safetensors
from tests.museum.exhibit import Release, exhibit, published, refused


@exhibit(
    "A checkpoint of the cadence was never uploaded, as 240 of K2's.",
    published("checkpoint-missing@10"),
    {"pair 12": "5 + part_0 part_1", "pair 9": "5 + part_0 part_1"},
)
def checkpoint_left_out(run: Release) -> None:
    run.checkpoints(*(c for c in run.each_checkpoint() if c["step"] != 10))


@exhibit(
    "The last step is the largest number there is: somebody meant that it trained on.",
    published("checkpoint-missing@25", "steps-without-order@21"),
    {"pair 15": "15 + part_1"},
)
def run_without_an_end(run: Release) -> None:
    run.manifest["training"]["last_step"] = 2**53 - 1


@exhibit("A checkpoint's folder was lost.", refused("checkpoints[0] (step 10): "))
def checkpoint_folder_lost(run: Release) -> None:
    for file in run.path("checkpoints/step-10/x").parent.iterdir():
        file.unlink()
    run.path("checkpoints/step-10/x").parent.rmdir()


@exhibit("A checkpoint's folder is empty.", refused("checkpoints[0] (step 10): "))
def checkpoint_folder_empty(run: Release) -> None:
    for file in run.path("checkpoints/step-10/x").parent.iterdir():
        file.unlink()


@exhibit(
    "A checkpoint is declared lost by its authors.",
    published("checkpoint-lost@10", "checkpoint-missing@10"),
    {"pair 10": "5 + part_0 part_1"},
)
def checkpoint_declared_lost(run: Release) -> None:
    run.checkpoints(*({**c, "missing": True} if c["step"] == 10 else c for c in run.each_checkpoint()))


@exhibit(
    "Weights of two steps are the same bytes: one was uploaded under the wrong name.", published("same-weights@10")
)
def same_weights_at_two_steps(run: Release) -> None:
    run.weights(15).write_bytes(run.weights(10).read_bytes())


@exhibit("Optimizer state of two steps is the same bytes.", published("same-optimizer@5"))
def same_optimizer_at_two_steps(run: Release) -> None:
    one = run.path("checkpoints/step-5/optimizer.bin").read_bytes()
    run.path("checkpoints/step-20/optimizer.bin").write_bytes(one)


@exhibit("One shard of two is the same at two steps.", published("shared-weights-file@5"))
def one_shard_of_another_step(run: Release) -> None:
    for step in (5, 10, 15, 20):
        run.weights(step).rename(run.path(f"checkpoints/step-{step}/model-00001-of-00002.safetensors"))
        second = run.path(f"checkpoints/step-{step}/model-00002-of-00002.safetensors")
        second.write_bytes(safetensors(bytes([min(step, 10)]) * 64 if step < 15 else bytes([step]) * 64))
    shared = run.path("checkpoints/step-5/model-00002-of-00002.safetensors").read_bytes()
    run.path("checkpoints/step-10/model-00002-of-00002.safetensors").write_bytes(shared)


@exhibit("A shard of the weights is lost, its name still counts to two.", published("shard-missing@10"))
def shard_lost(run: Release) -> None:
    run.weights(10).rename(run.path("checkpoints/step-10/model-00001-of-00002.safetensors"))


@exhibit("Weights are cut off, as after an interrupted upload.", published("weights-unreadable@15"))
def weights_cut_off(run: Release) -> None:
    run.weights(15).write_bytes(run.weights(15).read_bytes()[:-8])


@exhibit("The file of the weights is empty.", published("weights-unreadable@15"))
def weights_empty(run: Release) -> None:
    run.weights(15).write_bytes(b"")


@exhibit("The header of the weights names one tensor twice.", published("weights-unreadable@15"))
def tensor_named_twice(run: Release) -> None:
    one = '"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}'
    header = f"{{{one}, {one}}}".encode()
    run.weights(15).write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


@exhibit("The weights are the text of a Git LFS pointer.", published("weights-unreadable@15"))
def pointer_instead_of_weights(run: Release) -> None:
    run.weights(15).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 134217728\n"
    )


@exhibit("From one step on weights are float32 instead of bfloat16, as in Amber.", published("dtype-flip@15"))
def precision_that_changes(run: Release) -> None:
    for step in (15, 20):
        _weights(run, step, "F32")


@exhibit(
    "The manifest says float32, the files hold bfloat16.",
    published(*(f"dtype-contradicts-file@{step}" for step in (5, 10, 15, 20))),
)
def precision_that_is_not_the_declared_one(run: Release) -> None:
    run.checkpoints(*run.each_checkpoint(dtype="float32"))


@exhibit("One checkpoint lost its optimizer state, as in OLMo #796.", published("state-missing@15"))
def optimizer_state_lost(run: Release) -> None:
    run.path("checkpoints/step-15/optimizer.bin").unlink()


@exhibit("Optimizer states were never released, as Amber's.", published())
def no_optimizer_states(run: Release) -> None:
    for step in (5, 10, 15, 20):
        run.path(f"checkpoints/step-{step}/optimizer.bin").unlink()


@exhibit("Two checkpoints are listed at one step, as 40 in OLMo-2-13B's list.",
         published("step-listed-twice@10", "same-weights@5", "same-optimizer@5"))  # fmt: skip
def step_listed_twice(run: Release) -> None:
    again = {"step": 10, "labels": ["again"], "location": "checkpoints/step-5"}
    run.checkpoints(*run.each_checkpoint(), again)


@exhibit("One label stands at two checkpoints.", refused("checkpoints[1].labels: 'ckpt' is already a label"))
def label_at_two_checkpoints(run: Release) -> None:
    entries = run.each_checkpoint()
    entries[0]["labels"] = entries[1]["labels"] = ["ckpt"]
    run.checkpoints(*entries)


@exhibit("Labels name other steps than the real ones, as Pythia v0's.", published("label-names-other-step@5"))
def labels_of_other_steps(run: Release) -> None:
    run.checkpoints(*({**c, "labels": [f"step{c['step'] * 2}"]} for c in run.each_checkpoint()))


@exhibit("A checkpoint lies beyond the last step.", refused("checkpoints[3].step: step 25 lies beyond"))
def checkpoint_beyond_the_run(run: Release) -> None:
    entries = run.each_checkpoint()
    entries[3] |= {"step": 25, "location": "checkpoints/step-20"}
    run.checkpoints(*entries)


@exhibit("A checkpoint's tokens are rounded, as in `step1000-tokens4B`.", published("tokens-disagree@10"))
def tokens_that_are_rounded(run: Release) -> None:
    entries = run.each_checkpoint()
    entries[1]["tokens"] = 300
    run.checkpoints(*entries)


@exhibit("Tokens go down from one checkpoint to the next.", published("tokens-decrease@15"))
def tokens_that_go_down(run: Release) -> None:
    run.manifest["training"] = {"last_step": 20}
    run.manifest["data"]["order"] = []
    for k in range(2):
        run.chunk(k)["row_length"] = 8
    entries = run.each_checkpoint()
    for entry, tokens in zip(entries, (100, 200, 150, 400), strict=True):
        entry["tokens"] = tokens
    run.checkpoints(*entries)


@exhibit(
    "The local step does not fit the stage, as step 11931 kept in step11000-unsharded.",
    refused("checkpoints[3].local_step: step 20 is local step 10 of stage b, not 9"),
)
def local_step_of_another_checkpoint(run: Release) -> None:
    run.manifest["stages"] = [
        {"name": "a", "first_step": 1, "last_step": 10},
        {"name": "b", "first_step": 11, "last_step": 20},
    ]
    entries = run.each_checkpoint()
    entries[3] |= {"stage": "b", "local_step": 9}
    run.checkpoints(*entries)


@exhibit("config.json has another vocabulary than the manifest.", published("config-disagrees"))
def config_of_another_model(run: Release) -> None:
    run.path("config.json").write_text(json.dumps({"vocab_size": 999, "architectures": ["LlamaForCausalLM"]}))
    run.manifest["model"] = {"config": "config.json", "vocabulary": 100}


@exhibit("config.json is of another architecture than the manifest.", published("config-disagrees"))
def config_of_another_architecture(run: Release) -> None:
    run.path("config.json").write_text(json.dumps({"architectures": ["GPTNeoXForCausalLM"]}))
    run.manifest["model"] = {"config": "config.json", "architecture": "LlamaForCausalLM"}


def _gone(run: Release) -> None:
    run.weights(10).unlink()


@exhibit(
    "Weights vanished after publication.",
    published(),
    {"verify quick": "file-missing:checkpoints/step-10/model.safetensors", "findings": "file-missing"},
    later=_gone,
)
def weights_that_vanished(run: Release) -> None:
    run.manifest["title"] = "Vanished"


def _flip(run: Release) -> None:
    import os

    path = run.weights(10)
    before, about = bytearray(path.read_bytes()), path.stat()
    before[-1] ^= 1
    path.write_bytes(before)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@exhibit(
    "One bit of the weights rotted, size and time unchanged.",
    published(),
    {"verify quick": "sound", "verify deep": "file-changed:checkpoints/step-10/model.safetensors"},
    later=_flip,
)
def weights_that_rotted(run: Release) -> None:
    run.manifest["title"] = "Rotten"


def _weights(run: Release, step: int, dtype: str) -> None:
    header = json.dumps({"w": {"dtype": dtype, "shape": [4], "data_offsets": [0, 16]}}).encode()
    run.weights(step).write_bytes(struct.pack("<Q", len(header)) + header + bytes([step]) * 16)
