"""Commands a reader can paste: fetching a checkpoint or a pair with the portal, the Hub's client or curl."""

from __future__ import annotations

import re
import shlex

from portal.catalog.answers import CheckpointView, FileView, Pair

_HUB = re.compile(r"^hf://((?:datasets/)?[^@/]+/[^@/]+)@([^/]+)")


def checkpoint_commands(view: CheckpointView, portal: str) -> list[tuple[str, str]]:
    """Title and command for each way to get this checkpoint; ``portal`` is this portal's address."""
    commands = []
    if view.step is not None:
        folder = f"{view.run.split('/')[-1]}-step-{view.step}"
        commands.append(
            (
                "With the data it reads next, verified",
                f"{_portal(portal)} pair {_q(view.run)} {view.step} --to {_q(folder)}",
            )
        )
        commands.append(
            ("Its description as JSON", f"curl {_q(f'{portal}/api/v1/runs/{view.run}/checkpoints/{view.step}')}")
        )
    hub = _HUB.match(view.location or "")
    if hub:
        repository, revision = hub.groups()
        commands.append(("From the Hugging Face Hub", f"hf download {_q(repository)} --revision {_q(revision)}"))
        commands.append(
            (
                "In transformers",
                f"AutoModelForCausalLM.from_pretrained({repository!r}, revision={revision!r})",
            )
        )
    lines = curl_lines(view.files, portal)
    if lines:
        commands.append((f"File by file with curl ({len(lines)})", "\n".join(lines)))
    return commands


def pair_commands(pair: Pair, portal: str) -> list[tuple[str, str]]:
    """Title and command for each way to get this pair."""
    steps = pair.data.last_step - pair.data.first_step + 1
    asked = f"--data {pair.data.direction}" + ("" if pair.data.direction == "batch" else f" --steps {steps}")
    folder = f"{pair.run.split('/')[-1]}-step-{pair.step}-{pair.data.direction}"
    query = f"data={pair.data.direction}" + ("" if pair.data.direction == "batch" else f"&steps={steps}")
    address = f"{portal}/api/v1/runs/{pair.run}/steps/{pair.step}/pair?{query}"
    commands = [
        (
            "In parallel, resumable, verified",
            f"{_portal(portal)} pair {_q(pair.run)} {pair.step} {asked} --to {_q(folder)}",
        ),
        ("The list of files with their sha256, as JSON", f"curl {_q(address)}"),
        (
            "From Python",
            f"from portal.client import Portal\npair = Portal({portal!r}).pair({pair.run!r}, {pair.step}, data={pair.data.direction!r})",
        ),
    ]
    lines = curl_lines(pair.files, portal)
    if lines:
        commands.append((f"File by file with curl, resumable ({len(lines)})", "\n".join(lines)))
    return commands


def curl_lines(files: list[FileView], portal: str) -> list[str]:
    """One resumable download per file that has an address."""
    return [
        f"curl -L -C - --create-dirs -o {_q(file.path)} {_q(file.url if '://' in file.url else portal + file.url)}"
        for file in files
        if file.url
    ]


def _portal(address: str) -> str:
    return f"PORTAL_URL={_q(address)} portal"


def _q(text: str) -> str:
    return shlex.quote(text)
