"""Implements the engine port over vLLM. No other module imports vLLM.

Everything Wardrobe relies on in vLLM is named here and pinned by `tests/contract/test_vllm.py`:

- the `vllm.endpoint_plugins` entry point and `--middleware` put us into its API server;
- `EngineClient.add_lora / remove_lora / list_loras / generate / is_sleeping` are the engine's
  verbs;
- `create_server_socket` of its launcher is the one place that opens what it listens on;
- `OpenAIServingModels.lora_requests` is where its handlers look names up;
- `request_metadata.final_usage_info` on the request's state holds exact token counts;
- `output_processor` of the engine's client knows what a request has used that is under way.

Run as `python -m service.engine.vllm_engine`; configured by `WARDROBE_*` only.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from adapters.domain.limits import Usage
from adapters.domain.names import VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import EngineUnavailable, Rejected, WardrobeError
from adapters.settings import Settings
from adapters.telemetry_off import turn_telemetry_off
from service.engine import lora_operations
from service.engine.client_facts import tokenizer_facts
from service.engine.content_free_logs import install
from service.engine.grammars import TokenizerFacts
from service.engine.listener import inherited_listener
from service.engine.shared_residency import INCARNATION
from service.engine.short_waits import ShortWaits
from service.engine.temporary_folder import temporary_folder
from service.engine.tool_calls import call_schema
from service.engine.vllm_arguments import GRAMMAR_BACKEND, arguments, environment

PROBE_TOKENS = (1, 2, 3, 4, 5, 6, 7)
PROBE_LOGPROBS = 5
"""More than the likeliest: of which a base can be so sure that an adapter's change is rounded off.
"""

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


class VllmEngine:
    """Implements the port with vLLM's engine client and model table."""

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
    def resident(self) -> AbstractSet[VersionId]:
        return self._names.keys()

    @property
    def alive(self) -> bool:
        return not self._client.errored

    async def ping(self, *, workers: bool) -> None:
        # vLLM's own `check_health` looks at a flag: a core that hangs is healthy to it
        ask = self._client.list_loras if workers else self._client.is_sleeping
        try:
            await ask()
        except Exception as error:
            raise EngineUnavailable("the engine does not answer") from error

    async def load(self, version: ServedVersion, path: Path) -> None:
        if version.id in self._names:
            return
        request = _request(version, path)
        try:
            async with self._edge(version.name, self._patience.add):
                await self._client.add_lora(request)
            async with self._edge(version.name, self._patience.probe):
                await self._prove(request)
        except WardrobeError:
            await self._discard(version.id)
            raise
        self._learn(version, request)

    async def unload(self, version_id: VersionId) -> None:
        name = self._names.get(version_id, f"version {version_id}")
        self.forget(version_id)
        async with self._edge(name, self._patience.remove):
            await self._client.remove_lora(version_id)

    def name(self, version: ServedVersion, path: Path) -> None:
        self._learn(version, _request(version, path))

    def forget(self, version_id: VersionId) -> None:
        name = self._names.pop(version_id, None)
        if name is not None:
            self._models.lora_requests.pop(name, None)

    def spent(self, request_id: str) -> Usage | None:
        processor = self._client.output_processor
        prompt = completion = 0
        for name, parts in processor.external_req_ids.items():
            if request_id not in name:
                continue
            found = map(processor.request_states.get, parts)
            states = [state for state in found if state is not None]
            prompt += max((state.prompt_len for state in states), default=0)
            completion += sum(state.detokenizer.num_output_tokens() for state in states)
        return Usage(prompt=prompt, completion=completion) if prompt else None

    def _learn(self, version: ServedVersion, request: Any) -> None:
        self._models.lora_requests[version.name] = request
        self._names[version.id] = version.name

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
        if not all(map(math.isfinite, answer.values())):
            raise Rejected(f"{lora.lora_name} answers with no finite probability")
        if answer == base:
            raise Rejected(f"{lora.lora_name} answers exactly as the base: nothing of it was used")

    async def _first_token(self, request_id: str, lora: Any) -> Mapping[int, float]:
        """Log-probabilities of the likeliest first tokens after a fixed prompt."""
        from vllm.sampling_params import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=PROBE_LOGPROBS)
        final = None
        async for output in self._client.generate(
            _probe_prompt(), params, request_id, lora_request=lora
        ):
            final = output
        if final is None or not final.outputs[0].logprobs:
            raise EngineUnavailable("the engine gave no answer to a probe")
        found = final.outputs[0].logprobs[0]
        return {token: float(one.logprob) for token, one in found.items()}


async def warm_grammars(client: Any, *, seconds: float = 60.0) -> TokenizerFacts | None:
    """Makes the engine choose its grammar compiler now, by a request of ours, so that no caller's
    request does and none waits for it. None where this engine can make no grammars.

    Raises EngineUnavailable when the engine does not answer.
    """
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams

    if client.vllm_config.structured_outputs_config.backend != GRAMMAR_BACKEND:
        return None  # WARDROBE_ENGINE_ARGS asks for a compiler that nothing here measures
    format_ = StructuredOutputsParams(json_object=True)
    params = SamplingParams(max_tokens=1, temperature=0.0, structured_outputs=format_)
    try:
        async with asyncio.timeout(seconds):
            async for _ in client.generate(_probe_prompt(), params, "warm-grammars"):
                pass
    except TimeoutError as error:
        raise EngineUnavailable(f"the engine did not answer in {seconds:g} s") from error
    except Exception as error:
        if _is_death(error) or client.errored:
            raise EngineUnavailable("the engine has stopped and is being restarted") from error
        log.warning("no_structured_outputs", exc_info=True)
        return None
    return tokenizer_facts(client)


def _probe_prompt() -> Any:
    """As vLLM's renderer makes them of text: what is not is on its way out there."""
    from vllm.inputs.engine import tokens_input

    return tokens_input(list(PROBE_TOKENS))


def _request(version: ServedVersion, path: Path) -> Any:
    """The same in every process: name, id and path are what vLLM's caches go by."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=version.name, lora_int_id=version.id, lora_path=str(path))


def _is_death(error: Exception) -> bool:
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)


def installed_version() -> str:
    """vLLM's, whichever of its builds is installed."""
    import vllm

    return str(vllm.__version__)


def engine_limits(client: Any) -> dict[str, Any]:
    """What this engine can serve; the trainer asks before it spends a minute."""
    config = client.vllm_config
    return {
        "engine": f"vllm {installed_version()}",
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "max_lora_rank": config.lora_config.max_lora_rank,
        "max_loras": config.lora_config.max_loras,
        "max_cpu_loras": config.lora_config.max_cpu_loras,
        "max_model_len": config.model_config.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "vocabulary": config.model_config.get_vocab_size(),
        "scheduling": config.scheduler_config.policy,
    }


def prepare_process() -> None:
    """What each of vLLM's own processes needs before it does anything; called more than once.

    It is registered as a `vllm.general_plugins` entry point.
    """
    install()
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU

        PunicaWrapperGPU.add_lora_logits = lora_operations.leave_logits
        return
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    shm_broadcast.sched_yield = ShortWaits()
    punica_cpu.PunicaWrapperCPU.add_lora_logits = lora_operations.leave_logits
    for operation in (
        lora_operations.bgmv_shrink,
        lora_operations.bgmv_expand,
        lora_operations.bgmv_expand_slice,
    ):
        # the first calls them by name, the second has imported them from there
        for module in (lora_ops, punica_cpu):
            setattr(module, operation.__name__, operation)


def shape_forced_calls() -> None:
    """Has vLLM's handlers ask for forced tool calls in our shape (`service.engine.tool_calls`)."""
    from vllm.tool_parsers import utils

    utils._get_tool_schema_from_name_and_params = call_schema  # noqa: SLF001 - pinned


def parse(words: Sequence[str]) -> Namespace:
    """vLLM's own parser and checks over our command line. Exits with 2 on a wrong word."""
    # of this module, because they have moved from one version to the next; it uses both itself
    from vllm.entrypoints.cli.serve import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parsed: Namespace = make_arg_parser(FlexibleArgumentParser(prog="wardrobe serve")).parse_args(
        list(words)
    )
    validate_parsed_serve_args(parsed)
    return parsed


def accept_from(listener: socket.socket | None) -> None:
    """Makes vLLM's server take connections from this socket instead of one of its own; None leaves
    it as it is.

    vLLM opens one place for whatever number of API processes: before it starts them.
    """
    if listener is None:
        return
    from vllm.entrypoints.launchers import launcher

    def handed_on(address: tuple[str, int], *, reuse_port: bool) -> socket.socket:
        return listener

    launcher.create_server_socket = handed_on


def main() -> None:
    """Runs vLLM's API server with Wardrobe inside it, until a signal ends it."""
    settings = Settings()
    turn_telemetry_off()
    os.environ.update(environment(settings))
    os.environ[INCARNATION] = secrets.token_hex(8)
    state = settings.state_folder.create()
    # vLLM looks where temporary files go while it is imported
    with state.lock("serve"), temporary_folder(state) as folder:
        os.environ["VLLM_RPC_BASE_PATH"] = str(folder)
        with suppress(OSError):  # a full disk: then nothing is said from the start
            state.starting.touch()
        install()
        from vllm.entrypoints.cli.serve import ServeSubcommand

        accept_from(inherited_listener())
        ServeSubcommand.cmd(parse(arguments(settings)))


if __name__ == "__main__":
    main()
