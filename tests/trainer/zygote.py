"""Runs trainers without importing torch for each: reads requests from stdin, forks, answers on stdout; JSON lines.

``{"start": [ARGUMENT, ...], "log": FILE, "environment": {}, "file_limit": BYTES | null}`` -> ``{"pid": N}``
``{"call": "module:function", "arguments": [...], "log": FILE}`` -> ``{"pid": N}``
``{"wait": PID}`` -> ``{"code": N}``, negative for a signal
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any

import torch  # noqa: F401 - imported once for all
import transformers.models.gpt_neox.modeling_gpt_neox
import transformers.models.llama.modeling_llama
import transformers.models.olmo2.modeling_olmo2  # noqa: F401 - as torch

import portal.trainer.loop  # noqa: F401 - as torch
from portal.trainer.__main__ import main


def _child(request: dict[str, Any]) -> int:
    with open(request["log"], "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update(request.get("environment") or {})
    # The soft limit alone: what measures coverage writes its file when all is over.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit := request.get("file_limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        if "start" in request:
            sys.argv = ["trainer", *request["start"]]
            return main(request["start"])
        module, name = request["call"].split(":")
        getattr(importlib.import_module(module), name)(*request["arguments"])
        return 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            status = os.waitpid(request["wait"], 0)[1]
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            # Not before its handlers stand: a stop sent at once has to reach the trainer and not the fork.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            pid = os.fork()
            if not pid:
                sys.stdin.close()
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                code = _child(request)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
    # Torch takes seconds to take itself apart.
    os._exit(0)
