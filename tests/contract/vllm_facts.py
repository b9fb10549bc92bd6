"""Prints, as JSON, what the installed vLLM really offers; `test_vllm.py` runs it.

In a process of its own because importing vLLM takes seconds, changes global state and warns.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.routing import Match

from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import WardrobeError
from service.engine.content_free_logs import STARTING, ContentFreeRecords
from service.engine.grammar_compiler import grammar_of
from service.gateway.access import ACCESS
from tests.hostile_schemas import FITTING
from tests.service.tiny_tokenizer import END, tiny_tokenizer

os.environ |= {
    "VLLM_PLUGINS": "wardrobe",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ENFORCE_STRICT_TOOL_CALLING": "0",
    STARTING: "/nowhere/starting",
}


def doors(app: Any) -> list[dict[str, Any]]:
    """Every route of the app, its mounts and websockets included."""
    return [
        {
            "kind": type(route).__name__,
            "path": getattr(route, "path", None),
            "methods": sorted(getattr(route, "methods", None) or ()),
            "module": module_of(route),
        }
        for route in app.router.routes
    ]


def answers(app: Any) -> list[dict[str, Any]]:
    """Of each row of our table, the route that answers first."""
    found = []
    for row in ACCESS:
        path = re.sub(r"\{\w+\}", "x", row.template)
        scope = {"type": "http", "method": row.method, "path": path, "root_path": "", "headers": []}
        fitting = (r for r in app.router.routes if r.matches(dict(scope))[0] is Match.FULL)
        route = next(fitting, None)
        found.append(
            {
                "method": row.method,
                "template": row.template,
                "path": getattr(route, "path", None),
                "module": module_of(route),
            }
        )
    return found


def module_of(route: Any) -> str:
    """Where the route's handler is written."""
    return str(getattr(getattr(route, "endpoint", None), "__module__", ""))


def parameters(function: Any) -> list[str]:
    """Names of a callable's parameters."""
    return list(inspect.signature(function).parameters)


@dataclass(kw_only=True)
class Client:
    """vLLM's client as far as VllmEngine uses it; its core's answers go through vLLM's own code."""

    failure: str | None = None
    """What the engine's core says of `add_lora`."""
    silent: bool = False
    probe_error: Exception | None = None
    adapter: tuple[float, ...] = (-0.5, -1.5)
    base: tuple[float, ...] = (-1.5, -2.5)
    """Log-probabilities of its likeliest tokens."""
    errored: bool = False
    removed: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def add_lora(self, lora_request: Any) -> bool:
        """An answer of the core, or none, as when it died after the call was sent."""
        from vllm.v1.engine import UtilityOutput
        from vllm.v1.engine.core_client import _process_utility_output
        from vllm.v1.serial_utils import UtilityResult

        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        result = UtilityResult(True) if self.failure is None else None
        output = UtilityOutput(call_id=1, failure_message=self.failure, result=result)
        if not self.silent:
            _process_utility_output(output, {1: future})
        return await future

    async def is_sleeping(self) -> bool:
        """The core's own answer."""
        self.asked.append("core")
        return False

    async def list_loras(self) -> set[int]:
        """Asks the workers."""
        self.asked.append("workers")
        return set()

    async def remove_lora(self, lora_id: int) -> bool:
        """Fails as it does for what is not there."""
        self.removed.append(lora_id)
        raise Exception("Call to remove_lora method failed")

    async def generate(
        self, prompt: Any, params: Any, request_id: str, *, lora_request: Any
    ) -> AsyncIterator[Any]:
        """One token with as many log-probabilities as are asked for."""
        if lora_request is not None and self.probe_error is not None:
            raise self.probe_error
        likeliest = self.base if lora_request is None else self.adapter
        found = {
            token: SimpleNamespace(logprob=logprob)
            for token, logprob in enumerate(likeliest[: params.logprobs])
        }
        yield SimpleNamespace(outputs=[SimpleNamespace(logprobs=[found])])


def outcome(client: Client) -> list[Any]:
    """What becomes of a load: its error's name or `loaded`, and whether all of it is gone again."""
    from service.engine.vllm_engine import Patience, VllmEngine

    version = ServedVersion(
        id=VersionId(3), adapter="support", number=1, unit=Unit("support"), created_at=0.0,
        digest=Digest("a" * 64), base_fingerprint=Digest("b" * 64),
    )  # fmt: skip
    models = SimpleNamespace(lora_requests={})
    engine = VllmEngine(client, models, {}, patience=Patience(add=0.2, probe=0.2, remove=0.2))
    try:
        asyncio.run(engine.load(version, Path("/adapters/3")))
    except WardrobeError as error:
        clean = client.removed == [3] and not models.lora_requests and not engine.resident
        return [type(error).__name__, clean]
    return ["loaded", list(models.lora_requests) == ["support:1"] and not client.removed]


def pinged() -> list[str]:
    """Who is asked whether the engine lives, first without its workers."""
    from service.engine.vllm_engine import VllmEngine

    client = Client()
    engine = VllmEngine(client, SimpleNamespace(lora_requests={}), {})
    for workers in (False, True):
        asyncio.run(engine.ping(workers=workers))
    return client.asked


def outcomes() -> dict[str, list[Any]]:
    """The edge to the engine's process, by what happens there."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    return {
        "fine": outcome(Client()),
        "refused": outcome(Client(failure="no such module")),
        "refused_while_dying": outcome(Client(failure="no such module", errored=True)),
        "silent": outcome(Client(silent=True)),
        "probe_failed": outcome(Client(probe_error=EngineGenerateError())),
        "died": outcome(Client(probe_error=EngineDeadError())),
        "without_effect": outcome(Client(adapter=(-1.5, -2.5))),
        "rounded_off": outcome(Client(adapter=(0.0, -22.1), base=(0.0, -22.2))),
        "not_a_number": outcome(Client(adapter=(float("nan"),) * 2)),
    }


def failure_type() -> str:
    """What the client raises for whatever failed in the engine's core."""
    try:
        asyncio.run(Client(failure="x").add_lora(None))
    except Exception as error:
        return type(error).__name__
    return "nothing"


def fast_tokenizer() -> Any:
    """A small tokenizer, as vLLM would have it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny_tokenizer().tokenizer), eos_token=END
    )


def grammar_compilers(config: Any, schemas: list[Any]) -> list[str]:
    """Which compiler vLLM gives each of these requests to, asked one after the other."""
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams

    tokenizer, chosen = fast_tokenizer(), []
    for schema in schemas:
        wanted = StructuredOutputsParams(json=schema) if schema else None
        params = SamplingParams(
            structured_outputs=wanted or StructuredOutputsParams(json_object=True)
        )
        params._validate_structured_outputs(SimpleNamespace(is_diffusion=False), config, tokenizer)
        chosen.append(params.structured_outputs._backend)
    return chosen


def same_grammar() -> bool:
    """Whether what we compile of a schema is what vLLM compiles."""
    from vllm.v1.structured_output.backend_guidance import serialize_guidance_grammar
    from vllm.v1.structured_output.backend_types import StructuredOutputOptions

    words = [json.dumps(schema) for schema in FITTING]
    theirs = [serialize_guidance_grammar(StructuredOutputOptions.JSON, one) for one in words]
    return theirs == [grammar_of(one) for one in words]


ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
FUNCTIONS: list[dict[str, Any]] = [
    {"name": "find", "parameters": {"type": "object", "properties": {"x": {"$ref": "#/$defs/p"}},
                                    "$defs": {"p": {"type": "string"}}}},
    {"name": "stop"},
]  # fmt: skip
CHAT_TOOLS = [{"type": "function", "function": one} for one in FUNCTIONS]
FLAT_TOOLS = [{"type": "function", "strict": False, "parameters": None, **one} for one in FUNCTIONS]


def forced_calls() -> list[dict[str, Any]]:
    """What the engine is to make a grammar of for forced calls, as vLLM has it and as we do."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    from service.engine.vllm_engine import shape_forced_calls
    from service.gateway.tools import forced_schema

    shape_forced_calls()
    found = []
    for choice in ("required", "find", "stop"):
        for kind in (ChatCompletionRequest, ResponsesRequest):
            chat = kind is ChatCompletionRequest
            tool_choice: Any = choice
            if choice != "required":
                name = {"function": {"name": choice}} if chat else {"name": choice}
                tool_choice = {"type": "function", **name}
            for several in (True, False):
                body = {"tools": CHAT_TOOLS if chat else FLAT_TOOLS, "tool_choice": tool_choice,
                        "parallel_tool_calls": several}  # fmt: skip
                asked = ASKED if chat else {"model": "m", "input": "hello"}
                request = adjusted(kind.model_validate(json.loads(json.dumps({**asked, **body}))))
                made = request.extract_structured_outputs()
                found.append({"theirs": made.json, "tag": made.structural_tag,
                              "ours": forced_schema(body)})  # fmt: skip
    return found


def adjusted(request: Any) -> Any:
    """The request as its handler hands it on, with the parser of the embedded bases."""
    from vllm.parser.parser_manager import ParserManager

    tokenizer = fast_tokenizer()
    parser = ParserManager.get_parser(
        tool_parser_name="hermes", enable_auto_tools=True, tokenizer=tokenizer
    )
    assert parser is not None
    return parser(tokenizer, request.tools).adjust_request(request)


def asks_xgrammar() -> bool:
    """Whether a caller's schema beside tools that may be called is shown to another compiler."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.v1.structured_output import backend_xgrammar

    shown: list[Any] = []
    backend_xgrammar.validate_xgrammar_grammar = shown.append
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for several in (True, False):
        body = {**ASKED, "tools": CHAT_TOOLS, "tool_choice": "auto", "response_format": format_,
                "parallel_tool_calls": several}  # fmt: skip
        request = adjusted(ChatCompletionRequest.model_validate(json.loads(json.dumps(body))))
        if request.extract_structured_outputs().json != schema:
            shown.append(request)
    return bool(shown)


def body_fields() -> dict[str, list[str]]:
    """Every field of each endpoint's body."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    return {
        path: sorted(model.model_fields)
        for path, model in (
            ("/v1/chat/completions", ChatCompletionRequest),
            ("/v1/completions", CompletionRequest),
            ("/v1/responses", ResponsesRequest),
        )
    }


def same_tokenizer() -> bool:
    """Whether our compiler gets the tokenizer that vLLM's gets."""
    from service.engine.client_facts import tokenizer_facts

    model = SimpleNamespace(get_vocab_size=lambda: 300)
    client = SimpleNamespace(
        get_tokenizer=fast_tokenizer, vllm_config=SimpleNamespace(model_config=model)
    )
    found, tiny = tokenizer_facts(client), tiny_tokenizer()
    assert found is not None
    given, ours = json.loads(found.tokenizer), json.loads(tiny.tokenizer)
    same = all(given[part] == ours[part] for part in ("model", "added_tokens", "decoder"))
    return same and (found.vocabulary, found.eos) == (300, tiny.eos)


def media_keys() -> list[str]:
    """Keys of a content part that lead vLLM to media, whatever its type says."""
    from vllm.renderers.chat_utils import has_non_text_content

    # where that stands is another module in another version
    return sorted(has_non_text_content.__globals__["_MEDIA_CONTENT_PART_KEYS"])


def logs_are_sealed() -> bool:
    """Whether vLLM's own way of loading plugins puts our record factory in place."""
    import logging

    from vllm.plugins import load_general_plugins

    load_general_plugins()
    return isinstance(logging.getLogRecordFactory(), ContentFreeRecords)


def waits_by() -> list[str]:
    """What vLLM's reader calls while it waits for a message behind another, and what vLLM's own way
    of loading plugins puts there.
    """
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    ours, called = shm_broadcast.sched_yield, list[str]()
    shm_broadcast.sched_yield = lambda: called.append("sched_yield")
    reader = SimpleNamespace(is_reader=True, last_read=time.monotonic(), busy_loop_s=60)
    shm_broadcast.SpinCondition.wait(reader)
    shm_broadcast.sched_yield = ours
    return [*called, type(ours).__name__]


def of_a_batch() -> list[list[float]]:
    """What vLLM's CPU wrapper adds to the rows of one batch: the last slot's, the base's, the
    first slot's; the last slot holds what is no number.
    """
    import torch
    from vllm.lora.layers import LoRAMapping
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    wrapper = PunicaWrapperCPU(8, 8, "cpu")
    mapping = LoRAMapping(index_mapping=(12, 0, 11), prompt_mapping=(12, 0, 11), is_prefill=True)
    wrapper.update_metadata(mapping, [11, 12], 2, 8)
    down, up = torch.ones(2, 1, 1, 2), torch.ones(2, 1, 2, 1)
    up[1] = float("nan")
    output = torch.full((3, 2), 5.0)
    wrapper.add_lora_linear(output, torch.ones(3, 2), (down,), (up,), 1.0, (2,))
    return [[-1.0 if one != one else one for one in row] for row in output.tolist()]


def lora_operations() -> dict[str, Any]:
    """Of each LoRA operation that we replace: whether it takes what vLLM's does, and how far its
    numbers are from vLLM's, over batches of one version and of several.
    """
    import torch
    from vllm.lora.ops.torch_ops import lora_ops

    from service.engine import lora_operations

    spec = importlib.util.spec_from_file_location("as_shipped", str(lora_ops.__file__))
    assert spec is not None
    assert spec.loader is not None
    shipped = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shipped)
    torch.manual_seed(0)
    rank, into, out = 4, 6, 10
    cases: dict[str, tuple[int, Any, int, list[Any]]] = {
        "bgmv_shrink": (into, torch.randn(3, 1, rank, into), rank, [(0.5,)]),
        "bgmv_expand": (rank, torch.randn(3, 1, out, rank), out, [(True,), (False,)]),
        "bgmv_expand_slice": (rank, torch.randn(3, 1, 4, rank), out, [(3, 4, True), (3, 4, False)]),
    }
    found = {}
    for name, (width, weights, columns, more) in cases.items():
        ours, theirs = getattr(lora_operations, name), getattr(shipped, name)
        apart = 0.0
        for slots in ([1], [2, 2, 2], [0, 2, 1, 0]):
            for words in more:
                rows, before = torch.randn(len(slots), width), torch.randn(len(slots), columns)
                one, two = before.clone(), before.clone()
                ours(rows, weights, one, torch.tensor(slots), *words)
                theirs(rows, weights, two, torch.tensor(slots), *words)
                apart = max(apart, float((one - two).abs().max()))
        found[name] = {"alike": parameters(ours)[4:] == parameters(theirs)[4:], "apart": apart}
    return found


def logits_of_prompts() -> list[float]:
    """What is left of the logits of more tokens than rows are sampled: those of prompts that are
    scored, of two requests with adapters at once.
    """
    import torch
    from vllm.lora.layers import LoRAMapping
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    wrapper = PunicaWrapperCPU(8, 8, "cpu")
    mapping = LoRAMapping(index_mapping=(11, 11, 12), prompt_mapping=(11, 12), is_prefill=True)
    wrapper.update_metadata(mapping, [11, 12], 2, 8)
    down, up = torch.ones(2, 1, 1, 2), torch.ones(2, 1, 2, 1)
    logits = torch.full((5, 2), 5.0)
    wrapper.add_lora_logits(logits, torch.ones(5, 2), down, up, 1.0)
    return sorted(set(logits.flatten().tolist()))


def listens_on(args: Any) -> bool:
    """Whether vLLM's server takes connections from the socket that it is handed."""
    from vllm.entrypoints.launchers.launcher import setup_server

    from service.engine.vllm_engine import accept_from

    with socket.create_server(("127.0.0.1", 0)) as given:
        accept_from(given)
        _, used = setup_server(args, reuse_port=True)
        return used is given


def spent() -> list[dict[str, int] | None]:
    """What the engine's client knows of a request under way, of one with two prompts, of none."""
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
    from vllm.v1.engine.output_processor import OutputProcessor

    from service.engine.vllm_engine import VllmEngine

    processor = OutputProcessor(None, log_stats=False)
    for name, external, prompt in (
        ("a", "chatcmpl-req_1", 3),
        ("b", "cmpl-req_2-0", 3),
        ("c", "cmpl-req_2-1", 4),
    ):
        request = EngineCoreRequest(
            request_id=name,
            external_req_id=external,
            prompt_token_ids=[1] * prompt,
            mm_features=None,
            sampling_params=SamplingParams(max_tokens=8, detokenize=False),
            pooling_params=None,
            arrival_time=0.0,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        processor.add_request(request, None)
    processor.process_outputs(
        [
            EngineCoreOutput(request_id="a", new_token_ids=[5, 6]),
            EngineCoreOutput(request_id="c", new_token_ids=[5]),
        ]
    )
    engine = VllmEngine(SimpleNamespace(output_processor=processor), None, {})
    found = [engine.spent(name) for name in ("req_1", "req_2", "req_3")]
    return [usage._asdict() if usage else None for usage in found]


def main(base: str) -> None:
    """Writes the facts to standard output's last line."""
    import uvicorn
    import vllm
    from vllm.config import ParallelConfig
    from vllm.config.multimodal import MultiModalConfig
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
    from vllm.entrypoints.launchers.api_server import entry as server_entry
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.launcher import NoSignalServer, serve_http
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.lora.request import LoRARequest
    from vllm.plugins import load_endpoint_plugins
    from vllm.plugins.endpoint_plugins.interface import EndpointPlugin
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.engine.exceptions import EngineDeadError
    from vllm.v1.executor import Executor

    from adapters.settings import Settings
    from service.engine.vllm_arguments import arguments, environment
    from service.engine.vllm_engine import parse
    from service.launch.plugin import WardrobePlugin

    settings = Settings(
        base=base, base_name="wardrobe-base", max_model_len=256, tool_parser="hermes",
        reasoning_parser="none",
    )  # fmt: skip
    args = parse(arguments(settings))
    plugins = load_endpoint_plugins(("generate",))
    app = build_app(args, ("generate",), None)
    facts = {
        "version": vllm.__version__,
        "is_plugin": isinstance(WardrobePlugin(), EndpointPlugin),
        "loaded_plugins": [plugin.name for plugin in plugins],
        "add_lora": parameters(AsyncLLM.add_lora),
        "remove_lora": parameters(AsyncLLM.remove_lora),
        "list_loras": parameters(AsyncLLM.list_loras),
        "is_sleeping": parameters(AsyncLLM.is_sleeping),
        "sleeping_asks": inspect.getsource(EngineCore.is_sleeping)
        + inspect.getsource(Executor.is_sleeping.fget),
        "pinged": pinged(),
        "health": inspect.getsource(AsyncLLM.check_health),
        "listens_on": listens_on(args),
        "generate": parameters(AsyncLLM.generate),
        "process_number": "_api_process_rank" in ParallelConfig.__dataclass_fields__,
        "process_count": "_api_process_count" in ParallelConfig.__dataclass_fields__,
        "spent": spent(),
        "serve": parameters(ServeSubcommand.cmd),
        "lora_request": list(LoRARequest.__struct_fields__),
        "models_init": inspect.getsource(OpenAIServingModels.__init__),
        "usage_field": list(RequestResponseMetadata.model_fields),
        "dead_error": issubclass(EngineDeadError, Exception),
        "failure_type": failure_type(),
        "outcomes": outcomes(),
        "errored": inspect.getsource(AsyncLLM.errored.fget),
        "serve_http": inspect.getsource(serve_http),
        "serves_by": inspect.getsource(server_entry),
        "patient_server": issubclass(NoSignalServer, uvicorn.Server),
        "server_startup": inspect.getsource(uvicorn.Server.startup),
        "http": uvicorn.Config("x").http,
        "server_shutdown": inspect.getsource(uvicorn.Server.shutdown),
        "middleware": [m.cls.__name__ for m in app.user_middleware],
        "routes": sorted({route.path for route in app.routes if hasattr(route, "path")}),
        "doors": doors(app),
        "answers": answers(app),
        "compilers": grammar_compilers(args.structured_outputs_config, [*FITTING, None]),
        "compilers_reversed": grammar_compilers(
            args.structured_outputs_config, [None, *FITTING[::-1]]
        ),
        "same_grammar": same_grammar(),
        "forced_calls": forced_calls(),
        "asks_xgrammar": asks_xgrammar(),
        "body_fields": body_fields(),
        "environment": environment(settings),
        "same_tokenizer": same_tokenizer(),
        "media_keys": media_keys(),
        "images": MultiModalConfig(language_model_only=True).get_limit_per_prompt("image"),
        "logs_are_sealed": logs_are_sealed(),
        "waits_by": waits_by(),
        "of_a_batch": of_a_batch(),
        "lora_operations": lora_operations(),
        "logits_of_prompts": logits_of_prompts(),
        "args": {
            name: getattr(args, name)
            for name in (
                "enable_lora", "max_loras", "max_cpu_loras", "max_lora_rank", "max_model_len",
                "middleware", "disable_fastapi_docs", "generation_config", "port", "model",
                "served_model_name", "trust_remote_code", "enforce_eager", "language_model_only",
                "default_chat_template_kwargs", "tool_call_parser", "enable_auto_tool_choice",
                "reasoning_parser", "scheduling_policy",
            )
        },
    }  # fmt: skip
    print(json.dumps(facts, default=str))


if __name__ == "__main__":
    main(sys.argv[1])
