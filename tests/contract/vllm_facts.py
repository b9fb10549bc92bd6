"""Prints, as JSON, what the installed vLLM really offers; `test_vllm.py` runs it.

In a process of its own because importing vLLM takes seconds, changes global state and warns.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from typing import Any

os.environ |= {"VLLM_PLUGINS": "wardrobe", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def parameters(function: Any) -> list[str]:
    """Names of a callable's parameters."""
    return list(inspect.signature(function).parameters)


def main(base: str) -> None:
    """Writes the facts to standard output's last line."""
    import vllm
    from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.lora.request import LoRARequest
    from vllm.plugins import load_endpoint_plugins
    from vllm.plugins.endpoint_plugins.interface import EndpointPlugin
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.exceptions import EngineDeadError

    from adapters.settings import Settings
    from service.engine import arguments, parse
    from service.plugin import WardrobePlugin

    settings = Settings(base=base, base_name="wardrobe-base", max_model_len=256)
    args = parse(arguments(settings))
    plugins = load_endpoint_plugins(("generate",))
    app = build_app(args, ("generate",), None)
    facts = {
        "version": vllm.__version__,
        "is_plugin": isinstance(WardrobePlugin(), EndpointPlugin),
        "loaded_plugins": [plugin.name for plugin in plugins],
        "add_lora": parameters(AsyncLLM.add_lora),
        "remove_lora": parameters(AsyncLLM.remove_lora),
        "generate": parameters(AsyncLLM.generate),
        "lora_request": list(LoRARequest.__struct_fields__),
        "models_init": inspect.getsource(OpenAIServingModels.__init__),
        "usage_field": list(RequestResponseMetadata.model_fields),
        "dead_error": issubclass(EngineDeadError, Exception),
        "middleware": [m.cls.__name__ for m in app.user_middleware],
        "routes": sorted({route.path for route in app.routes if hasattr(route, "path")}),
        "args": {
            name: getattr(args, name)
            for name in (
                "enable_lora", "max_loras", "max_cpu_loras", "max_lora_rank", "max_model_len",
                "middleware", "disable_fastapi_docs", "generation_config", "port", "model",
                "served_model_name", "trust_remote_code", "enforce_eager",
            )
        },
    }  # fmt: skip
    print(json.dumps(facts, default=str))


if __name__ == "__main__":
    main(sys.argv[1])
