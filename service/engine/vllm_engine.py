"""The engine port, and the only module that imports vLLM.

Everything Wardrobe relies on in vLLM is named here and pinned by `tests/contract/test_vllm.py`:

- the `vllm.endpoint_plugins` entry point and `--middleware` put us into its API server;
- `EngineClient.add_lora / remove_lora / generate` are the engine's verbs;
- `OpenAIServingModels.lora_requests` is where its handlers look names up;
- `request_metadata.final_usage_info` on the request's state holds exact token counts.

Run as `python -m service.engine.vllm_engine`; configured by `WARDROBE_*` only.
"""

from __future__ import annotations

import asyncio
import json
import math
import shlex
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from adapters.domain.names import VersionId
from adapters.domain.versions import Version
from adapters.errors import EngineUnavailable, Rejected, WardrobeError
from adapters.settings import Settings
from adapters.telemetry_off import quieten
from service.engine.temporary_folder import temporary_folder

PLUGIN = "wardrobe"
MIDDLEWARE = "service.gateway.gateway.Gateway"

log = structlog.get_logger("wardrobe.engine")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds for each call into the engine: one that died just now never answers."""

    add: float = 60.0
    """Reads the files inside the engine's loop: gigabytes where rank and base are large."""
    probe: float = 60.0
    """Waits behind all that is queued: seconds on a loaded CPU."""
    remove: float = 10.0
    """Waits for one step of the engine."""


class Engine(Protocol):
    """What the swap loop needs of an inference engine."""

    @property
    def resident(self) -> frozenset[VersionId]:
        """Versions that answer now."""
        ...

    @property
    def alive(self) -> bool:
        """False once the engine has died; it does not come back in this process."""
        ...

    @property
    def limits(self) -> Mapping[str, Any]:
        """`max_lora_rank`, `max_model_len`, `max_cpu_loras`, `engine`."""
        ...

    async def load(self, version: Version, path: Path) -> None:
        """Makes a version answer under its name; already resident is fine.

        Raises Rejected when the engine refuses it or it has no effect, EngineUnavailable when
        the engine is gone or does not answer.
        """
        ...

    async def unload(self, version_id: VersionId) -> None:
        """Takes a version out; the caller has made sure that no request uses it.

        It no longer answers, whatever is raised: the same as `load`.
        """
        ...


class VllmEngine:
    """vLLM's engine client and model table behind the port."""

    def __init__(
        self,
        client: Any,
        models: Any,
        limits: Mapping[str, Any],
        *,
        patience: Patience = Patience(),
    ) -> None:
        self._client = client
        self._models = models
        self._patience = patience
        self._names: dict[VersionId, str] = {}
        self.limits = limits

    @property
    def resident(self) -> frozenset[VersionId]:
        return frozenset(self._names)

    @property
    def alive(self) -> bool:
        return not self._client.errored

    async def load(self, version: Version, path: Path) -> None:
        from vllm.lora.request import LoRARequest

        if version.id in self._names:
            return
        request = LoRARequest(lora_name=version.name, lora_int_id=version.id, lora_path=str(path))
        try:
            async with self._edge(version.name, self._patience.add):
                await self._client.add_lora(request)
            async with self._edge(version.name, self._patience.probe):
                await self._prove(request)
        except WardrobeError:
            await self._discard(version.id)
            raise
        self._names[version.id] = version.name
        self._models.lora_requests[version.name] = request

    async def unload(self, version_id: VersionId) -> None:
        name = self._names.pop(version_id, None)
        if name is not None:
            self._models.lora_requests.pop(name, None)
            async with self._edge(name, self._patience.remove):
                await self._client.remove_lora(version_id)

    @asynccontextmanager
    async def _edge(self, name: str, seconds: float) -> AsyncIterator[None]:
        """The edge of another process: whatever it raises becomes Rejected or EngineUnavailable.

        The client raises a bare `Exception` for all that fails in the engine's core, and
        EngineGenerateError, which is no ValueError either, for a failed probe.
        """
        try:
            async with asyncio.timeout(seconds):
                yield
        except WardrobeError:
            raise
        except TimeoutError as error:
            raise EngineUnavailable(f"the engine did not answer in {seconds:g} s") from error
        except Exception as error:
            if _is_death(error) or not self.alive:
                raise EngineUnavailable("the engine has stopped and is being restarted") from error
            log.warning("engine_refused", version=name, exc_info=True)
            raise Rejected(f"the engine cannot load {name}") from error

    async def _discard(self, version_id: VersionId) -> None:
        """After a load that failed: it may or may not have got as far as the engine's worker."""
        with suppress(Exception):
            async with asyncio.timeout(self._patience.remove):
                await self._client.remove_lora(version_id)

    async def _prove(self, lora: Any) -> None:
        """Raises Rejected when the adapter's answer is no number or the base's to the last bit.

        An adapter whose tensors match nothing loads without complaint and serves the base
        (vllm#34186). Both are asked at once, so that a batch's rounding is the same for both.
        """
        probe = f"probe-{lora.lora_int_id}"
        answer, base = await asyncio.gather(
            self._first_token(probe, lora), self._first_token(f"{probe}-base", None)
        )
        if not math.isfinite(answer):
            raise Rejected(f"{lora.lora_name} answers with no finite probability")
        if answer == base:
            raise Rejected(f"{lora.lora_name} answers exactly as the base: nothing of it was used")

    async def _first_token(self, request_id: str, lora: Any) -> float:
        """Log-probability of the likeliest first token of a fixed prompt."""
        from vllm.sampling_params import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=1)
        final = None
        async for output in self._client.generate(
            {"prompt_token_ids": [1, 2, 3, 4, 5, 6, 7]}, params, request_id, lora_request=lora
        ):
            final = output
        if final is None or not final.outputs[0].logprobs:
            raise EngineUnavailable("the engine gave no answer to a probe")
        return float(next(iter(final.outputs[0].logprobs[0].values())).logprob)


def _is_death(error: Exception) -> bool:
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)


def engine_limits(client: Any) -> dict[str, Any]:
    """What this engine can serve; the trainer asks before it spends a minute."""
    import vllm

    config = client.vllm_config
    return {
        "engine": f"vllm {vllm.__version__}",
        "max_lora_rank": config.lora_config.max_lora_rank,
        "max_loras": config.lora_config.max_loras,
        "max_cpu_loras": config.lora_config.max_cpu_loras,
        "max_model_len": config.model_config.max_model_len,
    }


def arguments(settings: Settings) -> list[str]:
    """vLLM's command line for these settings. Later words win, so `engine_args` comes last."""
    words: list[str] = [
        *("--model", settings.base),
        *("--served-model-name", base_name(settings)),
        *("--host", settings.host),
        *("--port", str(settings.port)),
        *("--dtype", _dtype(settings)),
        *("--max-model-len", str(settings.max_model_len)),
        "--enable-lora",
        *("--max-loras", str(settings.max_loras)),
        *("--max-cpu-loras", str(settings.max_cpu_loras)),
        *("--max-lora-rank", str(settings.max_lora_rank)),
        *("--middleware", MIDDLEWARE),
        # the base's own sampling defaults would make one alias answer unlike another
        *("--generation-config", "vllm"),
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    ]
    if settings.engine == "cpu":
        words += ["--enforce-eager"]
    return words + shlex.split(settings.engine_args)


def base_name(settings: Settings) -> str:
    """What applications call the base model."""
    return settings.base_name or Path(settings.base).name


def _dtype(settings: Settings) -> str:
    """A float32 checkpoint stays float32 on the CPU, where vLLM's `auto` would halve it."""
    config = Path(settings.base) / "config.json"
    if settings.dtype != "auto" or settings.engine != "cpu" or not config.is_file():
        return settings.dtype
    document = json.loads(config.read_text("utf-8"))
    stored = document.get("dtype") or document.get("torch_dtype")
    return "float32" if stored == "float32" else "auto"


def environment(settings: Settings) -> dict[str, str]:
    """vLLM's environment: ours is the only plugin, nothing reloads adapters behind our back."""
    words = {
        "VLLM_PLUGINS": PLUGIN,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_LOGGING_LEVEL": settings.log_level.upper(),
    }
    if settings.engine == "cpu":
        words["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
        # the first request with logprobs would compile a kernel inside the engine's loop, a
        # stall of 10 to 20 s for everyone; eager mode compiles nothing else
        words["TORCHDYNAMO_DISABLE"] = "1"
    return words


def parse(words: Sequence[str]) -> Namespace:
    """vLLM's own parser and checks over our command line. Exits with 2 on a wrong word."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parsed: Namespace = make_arg_parser(FlexibleArgumentParser(prog="wardrobe serve")).parse_args(
        list(words)
    )
    validate_parsed_serve_args(parsed)
    return parsed


def main() -> None:
    """Runs vLLM's API server with Wardrobe inside it, until a signal ends it."""
    import os

    settings = Settings()
    quieten()
    os.environ.update(environment(settings))
    state = settings.state_folder.create()
    # vLLM looks where temporary files go while it is imported
    with state.lock("serve"), temporary_folder(state) as folder:
        os.environ["VLLM_RPC_BASE_PATH"] = str(folder)
        import uvloop
        from vllm.entrypoints.launchers.api_server.entry import run_server
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

        cli_env_setup()
        uvloop.run(run_server(parse(arguments(settings))))


if __name__ == "__main__":
    main()
