"""vLLM's command line and environment, made from the settings. Imports nothing of vLLM."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

from adapters.domain.base_profile import THINKING_SWITCHES
from adapters.settings import NO_PARSER, Settings
from service.engine.content_free_logs import STARTING

PLUGIN = "wardrobe"
LEAVE_SECONDS = 10.0
"""What an API process may take to end after its last answer."""
MIDDLEWARE = "service.gateway.gateway.Gateway"
GRAMMAR_BACKEND = "guidance"
"""vLLM's `auto` checks with one compiler and uses, for all units and until its end, whichever the
first request was given. xgrammar, its favourite, unfolds patterns by recursion in native code.
"""


def arguments(settings: Settings) -> list[str]:
    """vLLM's command line for these settings. Later words win, so `engine_args` comes last."""
    words: list[str] = [
        *("--model", settings.base),
        *("--served-model-name", base_name(settings)),
        *("--host", settings.host),
        *("--port", str(settings.port)),
        *("--dtype", settings.dtype),
        *("--max-model-len", str(settings.max_model_len)),
        "--enable-lora",
        *("--max-loras", str(settings.max_loras)),
        *("--max-cpu-loras", str(settings.max_cpu_loras)),
        *("--max-lora-rank", str(settings.max_lora_rank)),
        *("--middleware", MIDDLEWARE),
        # the base's own sampling defaults would make one alias answer unlike another
        *("--generation-config", "vllm"),
        # templates without such a switch never see it; the trainer renders with the same
        *("--default-chat-template-kwargs", json.dumps(_template_options(settings))),
        # the second wall behind `service.gateway.messages`, also where the base can see
        "--language-model-only",
        # evaluation and shadow traffic go behind callers
        *("--scheduling-policy", "priority"),
        *("--structured-outputs-config", json.dumps({"backend": GRAMMAR_BACKEND})),
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    ]
    if settings.tls_cert is not None and settings.tls_key is not None:
        words += ["--ssl-certfile", str(settings.tls_cert)]
        words += ["--ssl-keyfile", str(settings.tls_key)]
    if settings.calls_tools:
        words += ["--enable-auto-tool-choice", "--tool-call-parser", settings.tool_parser]
    if settings.reasoning_parser not in ("", NO_PARSER):
        words += ["--reasoning-parser", settings.reasoning_parser]
    if settings.engine == "cpu":
        words += ["--enforce-eager"]
    else:
        words += ["--gpu-memory-utilization", str(settings.gpu_share)]
    if settings.api_servers > 1:
        # the parent ends its API processes at SIGTERM: each needs the time to drain
        patience = math.ceil(settings.drain_seconds + LEAVE_SECONDS)
        words += ["--api-server-count", str(settings.api_servers)]
        words += ["--shutdown-timeout", str(patience)]
    return words + shlex.split(settings.engine_args)


def _template_options(settings: Settings) -> dict[str, bool]:
    return dict.fromkeys(THINKING_SWITCHES, settings.thinking == "on")


def base_name(settings: Settings) -> str:
    """What applications call the base model."""
    return settings.base_name or Path(settings.base).name


def environment(settings: Settings) -> dict[str, str]:
    """vLLM's environment: ours is the only plugin, nothing reloads adapters behind our back."""
    words = {
        "VLLM_PLUGINS": PLUGIN,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "VLLM_SERVER_DEV_MODE": "0",
        # as its own command line has it: a forked process cannot use a GPU
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # else tools become structural tags, which xgrammar makes of callers' schemas in this very
        # process; without, forced calls are a JSON schema as any other (`service.gateway.tools`)
        "VLLM_ENFORCE_STRICT_TOOL_CALLING": "0",
        # vLLM's 5 s are also how long the SDKs keep an idle connection: whoever asks just then
        # finds it closed. A client that closes first loses nothing
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(settings.keep_alive_seconds),
        # nothing of a request is kept
        "VLLM_ENABLE_RESPONSES_API_STORE": "0",
        "VLLM_LOGGING_LEVEL": settings.log_level.upper(),
        # what does not come as a log record, and quotes what it speaks of
        "LLGUIDANCE_LOG_LEVEL": "0",
        "PYTHONWARNINGS": "ignore",
        STARTING: str(settings.state_folder.starting),
    }
    if settings.engine == "cpu":
        words["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
        # the first request with logprobs would compile a kernel inside the engine's loop, a
        # stall of 10 to 20 s for everyone; eager mode compiles nothing else
        words["TORCHDYNAMO_DISABLE"] = "1"
    return words
