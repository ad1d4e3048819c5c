"""``portal worker``: attach compute to a portal."""

from __future__ import annotations

import logging
import re
import shutil
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from portal.cli.terminal import complain, visible
from portal.errors import Forbidden, NameTaken, Unauthorized, UsageError
from portal.settings import Settings
from portal.worker.agent import Agent, Attachment
from portal.worker.executors import open_executor
from portal.worker.leftovers import DAY

_SIZE = re.compile(r"^(\d+)\s*([KMGT]?)i?B?$", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
STAGING = ("direct", "relay")


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("worker")(worker)


def worker(  # noqa: PLR0913 - the command line is read from the signature
    url: Annotated[str, typer.Option("--url", help="Portal to attach to; default PORTAL_URL.")] = "",
    token: Annotated[
        str, typer.Option("--token", envvar="PORTAL_TOKEN", help="Token of role worker; default PORTAL_TOKEN.")
    ] = "",
    executor: Annotated[str, typer.Option(help="process (this machine), slurm or ray.")] = "process",
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs to use, of this machine; default: all that the driver shows.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="k=v that jobs may ask for; may be repeated.")] = None,
    name: Annotated[str, typer.Option(help="As the portal lists it; default: this machine's name.")] = "",
    work: Annotated[
        Path, typer.Option("--work", help="Folder for attempts and fetched files; a cluster's nodes must see it.")
    ] = Path("portal-worker"),
    staging: Annotated[
        str,
        typer.Option(
            help="direct: jobs talk to the portal; relay: this process does, for nodes without a network."
            " Default: relay for slurm, else direct."
        ),
    ] = "",
    python: Annotated[str, typer.Option(help="Interpreter with torch and transformers; default: this one.")] = "",
    cache: Annotated[str, typer.Option(help="Room for fetched files that no job uses, e.g. 500GB.")] = "100GB",
    keep_days: Annotated[
        int, typer.Option(min=1, help="Days after which an attempt's folder goes that nobody can take up again.")
    ] = 7,
    option: Annotated[list[str] | None, typer.Option(help="k=v of the executor, e.g. partition=gpu.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Run one job and end.")] = False,
    save_on_stop: Annotated[
        bool,
        typer.Option(
            "--save-on-stop", help="Told to stop, save the running jobs at once: for containers and services."
        ),
    ] = False,
) -> int:
    """Attach compute to a portal: run its jobs on this machine, on Slurm or on Ray.

    Until told to stop: SIGTERM (or Ctrl-C) takes no more jobs, a second one saves those that run, and stops.
    """
    address = url or Settings().url
    if not address:
        raise UsageError("Which portal?", "Give its address by --url or PORTAL_URL.")
    if not token:
        raise UsageError("A token is needed.", "Make one with `portal token create --role worker`; give it by --token.")
    if staging and staging not in STAGING:
        raise UsageError(f"There is no staging {staging!r}.", "It is direct or relay.")
    attachment = Attachment(
        url=address.rstrip("/"),
        token=token,
        name=name or socket.gethostname(),
        work=work.absolute(),
        python=_interpreter(python),
        labels=_pairs("label", label),
        staging=staging or ("relay" if executor == "slurm" else "direct"),
        once=once,
        cache_bytes=_size(cache),
        leftover_seconds=keep_days * DAY,
    )
    engine = open_executor(executor, attachment.work / "attempts", gpus, _pairs("option", option))
    return _work(Agent(attachment, engine), attachment, save_on_stop)


def _work(agent: Agent, attachment: Attachment, save_on_stop: bool) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        agent.drain()
        if save_on_stop:
            agent.drain()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        return agent.run()
    except (Unauthorized, Forbidden) as error:
        complain(
            f"{visible(attachment.url)} refuses this worker's token: {error.message}"
            " Make one with `portal token create --role worker`."
        )
        return 1
    except NameTaken as error:
        complain(str(error))
        return 1


def _interpreter(given: str) -> str:
    """With its whole path: attempts run in folders of their own. A virtual environment's link must stay one."""
    if not given:
        return sys.executable
    return str(Path(found).absolute()) if (found := shutil.which(given)) else str(Path(given).absolute())


def _pairs(what: str, given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given or []:
        key, equals, value = each.partition("=")
        if not (key and equals):
            raise UsageError(f"--{what} {each!r} is no k=v.", f"Write e.g. --{what} site=a.")
        found[key] = value
    return found


def _size(text: str) -> int:
    found = _SIZE.match(text.strip())
    if not found:
        raise UsageError(f"{text!r} is no size.", "Write e.g. 500GB.")
    return int(found[1]) * _UNITS[found[2].upper()]
