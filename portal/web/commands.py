"""Commands a reader can paste: fetching a checkpoint or a pair with the portal, the Hub's client, curl or Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from portal.catalog.answers import CheckpointView, Pair
from portal.web.downloads import Download, DownloadPlan, plan_checkpoint

_HUB = re.compile(r"^hf://(?P<repository>[^@/]+/[^@/]+)@(?P<revision>[^/]+)(/(?P<folder>.+))?$")
Command = tuple[str, str]
"""Title and text."""


def checkpoint_commands(
    view: CheckpointView, portal: str, last_step: int | None, rows_known: bool = False
) -> list[Command]:
    """Each way to get this checkpoint that works today; ``portal`` is this portal's address.

    ``rows_known`` says whether the rows of its last step can be named and read. Empty for one whose files were lost.
    """
    if view.missing:
        return []
    folder = f"{view.run.split('/')[-1]}-step-{view.step}"
    # The last checkpoint has nothing to read next, the initial model has read nothing.
    data = "next" if view.step is not None and view.step < (last_step or 0) else "previous"
    paired = view.step is not None and (view.step > 0 or data == "next")
    plan = plan_checkpoint(view)
    commands: list[Command] = []
    if paired and plan.files:
        commands.append(_portal_pair(portal, view.run, view.step or 0, f"--data {data} --to {_q(folder)}", data))
    commands += dialect_commands(view, portal, rows_known)
    commands += _hub_commands(view) or (_local_commands(view, folder) if paired else [])
    if paired and plan.files:
        commands.append(_python(portal, view.run, view.step or 0, folder, f"{data!r}"))
    commands += _curl(plan, portal)
    key = view.step if view.step is not None else view.labels[0] if view.labels else ""
    described = f"{portal}/api/v1/runs/{view.run}/checkpoints/{key}"
    return [*commands, ("Its description as JSON", f"curl {_q(described)}")]


def dialect_commands(view: CheckpointView, portal: str, rows_known: bool) -> list[Command]:
    """What unmodified clients of the Hub need to read this checkpoint, and what its last step read, from the portal.

    A file without a known digest is in no repository, so that a checkpoint with such weights is left out.
    """
    names = {f.path.rsplit("/", 1)[-1] for f in view.files}
    weights = [f for f in view.files if f.role == "weights"]
    if view.step is None or not weights or any(f.sha256 is None or f.size is None for f in weights):
        return []
    revision, lost = f"step-{view.step}", any(f.state in ("missing", "changed") for f in view.files)
    if lost:
        return []
    endpoint = f'import os\nos.environ["HF_ENDPOINT"] = {portal!r}  # before the library is imported\n'
    commands: list[Command] = []
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        text = (
            f"{endpoint}from transformers import AutoModelForCausalLM\n"
            f"model = AutoModelForCausalLM.from_pretrained({view.run!r}, revision={revision!r})"
        )
        commands.append(("In transformers, from this portal", text))
    line = f"HF_ENDPOINT={_q(portal)} hf download {_q(view.run)} --revision {revision}"
    commands.append(("With the Hub's client, from this portal", line))
    if rows_known and view.step > 0:
        text = (
            f"{endpoint}from datasets import load_dataset\n"
            f'rows = load_dataset({view.run!r}, revision={revision!r}, split="train")'
        )
        commands.append(("What its last step read, in datasets", text))
    return commands


def pair_commands(pair: Pair, plan: DownloadPlan, steps: int | None, portal: str) -> list[Command]:
    """Each way to get exactly this pair; ``steps`` as asked, None for up to the neighbouring checkpoint."""
    data = pair.data.direction
    folder = f"{pair.run.split('/')[-1]}-step-{pair.step}-{data}"
    asked = f"--data {data}" + (f" --steps {steps}" if steps is not None else "")
    asked += f" --parts {','.join(pair.parts)}" if pair.parts else ""
    choice = f"{data!r}" + (f", {steps}" if steps is not None or pair.parts else "")
    choice += f", {tuple(pair.parts)!r}" if pair.parts else ""
    return [
        (
            "In parallel, resumable, verified" + (" where a sha256 is known" if pair.unhashed else ""),
            f"{_portal(portal)} pair {_q(pair.run)} {pair.step} {asked} --to {_q(folder)}",
        ),
        *_hub_files(pair),
        _python(portal, pair.run, pair.step, folder, choice),
        *_curl(plan, portal),
    ]


def curl_lines(files: Sequence[Download], portal: str) -> list[str]:
    """One resumable download per file, to where `portal pair` puts it."""
    return [
        f"curl -fL -C - --create-dirs -o {_q(f.target)} {_q(f.url if '://' in f.url else portal + f.url)}"
        for f in files
    ]


def _portal_pair(portal: str, run: str, step: int, asked: str, data: str) -> Command:
    says = {"next": "the data it reads next", "previous": "the data it had just read"}[data]
    return f"With {says}, verified", f"{_portal(portal)} pair {_q(run)} {step} {asked}"


def _hub_commands(view: CheckpointView) -> list[Command]:
    """The Hub's own commands, pinned to the revision the release names."""
    hub = _HUB.match(view.location or "")
    if hub is None:
        return []
    repository, revision, folder = hub["repository"], hub["revision"], hub["folder"]
    only = f" --include {_q(f'{folder}/*')}" if folder else ""
    inside = f", subfolder={folder!r}" if folder else ""
    return [
        (
            "In transformers, from the Hub",
            "from transformers import AutoModelForCausalLM\n"
            f"model = AutoModelForCausalLM.from_pretrained({repository!r}, revision={revision!r}{inside})",
        ),
        ("With the Hub's client", f"hf download {_q(repository)} --revision {_q(revision)}{only}"),
    ]


def _local_commands(view: CheckpointView, folder: str) -> list[Command]:
    """Loading what was fetched, where its files are such as transformers loads."""
    names = {file.path.rsplit("/", 1)[-1] for file in view.files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        return []
    return [
        (
            "In transformers, from the folder just fetched",
            "from transformers import AutoModelForCausalLM\n"
            f"model = AutoModelForCausalLM.from_pretrained({f'{folder}/checkpoint'!r})",
        )
    ]


def _hub_files(pair: Pair) -> list[Command]:
    hub = _HUB.match(pair.checkpoint.location or "")
    if hub is None:
        return []
    only = f" --include {_q(hub['folder'] + '/*')}" if hub["folder"] else ""
    line = f"hf download {_q(hub['repository'])} --revision {_q(hub['revision'])}{only}"
    return [("The whole checkpoint with the Hub's client", line)]


def _python(portal: str, run: str, step: int, folder: str, choice: str) -> Command:
    lines = [
        "from pathlib import Path",
        "from portal.client import PairChoice, Portal, download_pair",
        f"with Portal({portal!r}) as portal:",
        f"    download_pair(portal, {run!r}, {step}, Path({folder!r}), PairChoice({choice}))",
    ]
    return "From Python", "\n".join(lines)


def _curl(plan: DownloadPlan, portal: str) -> list[Command]:
    lines = curl_lines(plan.files, portal)
    count = f"{len(lines):,} {'file' if len(lines) == 1 else 'files'}"
    return [(f"File by file with curl, resumable ({count})", "\n".join(lines))] if lines else []


def _portal(address: str) -> str:
    return f"PORTAL_URL={_q(address)} portal"


def _q(text: str) -> str:
    return shlex.quote(text)
