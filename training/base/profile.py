"""`python -m training.base.profile FOLDER [--revision COMMIT]`: a base's profile as JSON.

Reads configuration and tokenizer, and of the weights their headers; where they are missing, the
modules of the architecture without any numbers in them. No GPU, and nothing that comes with a model
is run.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.admission.base_model import base_shapes, fingerprint, parameter_count
from adapters.domain.base_profile import BaseProfile, ChatProfile, LinearModule, Problem, to_json
from adapters.domain.recipes import Recipe
from adapters.errors import InvalidRequest
from training.base.base_fit import adapted_as
from training.base.chat_format import ChatFormat, TemplateError, load_chat
from training.base.output_format import reasoning_parser, tool_parser

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CHAT: Mapping[str, str] = {"role": "user", "content": "Where is it?"}
ANSWER: Mapping[str, str] = {"role": "assistant", "content": "It is here."}
CONVERSATIONS: Mapping[str, tuple[Mapping[str, str], ...]] = {
    "one turn": (CHAT, ANSWER),
    "system and turn": ({"role": "system", "content": "Answer briefly."}, CHAT, ANSWER),
    "two turns": (CHAT, ANSWER, CHAT, ANSWER),
}
"""The first one must be learnt, or the base is of no use."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
GENERATORS = ("ForCausalLM", "LMHeadModel")

Modules = Mapping[str, tuple[int, int]]


def read_profile(base: Path, *, revision: str | None = None) -> BaseProfile:
    """Everything about the base in a folder, its problems included. Raises InvalidRequest."""
    config = _config(base)
    text = config.get_text_config()
    problems = list(_config_problems(base, config, text))
    modules, parameters = _modules(base, config, problems)
    chat, ends = _chat(base, problems)
    problems += _module_problems(modules)
    return BaseProfile(
        fingerprint=fingerprint(base) if _has_weights(base) else None,
        revision=revision,
        architecture=_architecture(config),
        dtype=_dtype(config, text),
        parameters=parameters,
        context=int(getattr(text, "max_position_embeddings", 0) or 0),
        kv_numbers_per_token=_kv_numbers(text),
        modules=modules,
        end_tokens=ends,
        chat=chat,
        problems=tuple(problems),
    )


def _config(base: Path) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        found: PretrainedConfig = AutoConfig.from_pretrained(
            base, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidRequest(f"the base's config.json cannot be read: {reason[0][:200]}") from None
    return found


def _config_problems(base: Path, config: Any, text: Any) -> Iterator[Problem]:
    architecture = _architecture(config)
    if json.loads((base / "config.json").read_text("utf-8")).get("auto_map"):
        yield Problem(what="needs code that comes with it, which is never run", blocking=True)
    if config.is_encoder_decoder or not architecture.endswith(GENERATORS):
        several = text is not config
        kind = "reads more than text" if several else "does not write text word by word"
        yield Problem(what=f"{architecture} {kind}: not supported", blocking=True)
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        method = dict(quantised).get("quant_method", "in a way it does not name")
        yield Problem(
            what=f"is quantised ({method}): take the base it was made from", blocking=True
        )
    if any(getattr(text, name, None) for name in EXPERTS):
        yield Problem(
            what="has experts: adapters are trained on the other layers only", blocking=False
        )
    if not getattr(text, "max_position_embeddings", None):
        yield Problem(what="does not say how long a conversation may be", blocking=True)


def _modules(
    base: Path, config: Any, problems: list[Problem]
) -> tuple[tuple[LinearModule, ...], int]:
    try:
        if _has_weights(base):
            return _grouped(base_shapes(base)), parameter_count(base)
        shapes, parameters = _empty_model(config)
        return _grouped(shapes), parameters
    except InvalidRequest as error:
        problems.append(Problem(what=error.message, blocking=True))
    except Exception as error:  # whatever an architecture's own code raises over a configuration
        problems.append(
            Problem(what=f"its layers cannot be made: {type(error).__name__}", blocking=True)
        )
    return (), 0


def _empty_model(config: Any) -> tuple[Modules, int]:
    """Names and shapes of the architecture's linear layers, made without memory for numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_config(config)
    shapes = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split("."))
    }
    return shapes, sum(part.numel() for part in model.parameters())


def _grouped(shapes: Modules) -> tuple[LinearModule, ...]:
    """By last name, what can get an adapter."""
    by_name: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, shape in shapes.items():
        if last := adapted_as(name):
            by_name[last].append(shape)
    return tuple(
        LinearModule(
            name=name,
            count=len(found),
            shapes=tuple(sorted(set(found))),
            width=sum(map(sum, found)),
        )
        for name, found in sorted(by_name.items())
    )


def _module_problems(modules: tuple[LinearModule, ...]) -> Iterator[Problem]:
    names = [module.name for module in modules]
    lacking = [name for name in Recipe().target_modules if name not in names]
    if modules and lacking:
        yield Problem(
            what=f"has no {', '.join(lacking)}; adapters go onto {', '.join(names)} where a recipe "
            "names no others",
            blocking=False,
        )


def _chat(base: Path, problems: list[Problem]) -> tuple[ChatProfile | None, tuple[str, ...]]:
    try:
        chat = load_chat(base)
    except (TemplateError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        known = isinstance(error, TemplateError)
        what = str(error) if known else "its tokenizer cannot be read"
        problems.append(Problem(what=what, blocking=True))
        return None, ()
    ends = tuple(sorted(str(chat.tokenizer.convert_ids_to_tokens(end)) for end in chat.ends))
    if not ends:
        problems.append(Problem(what="no token ends an answer", blocking=True))
    results = {kind: _tried(chat, messages) for kind, messages in CONVERSATIONS.items()}
    for kind, result in results.items():
        if result != "learnt":
            first = kind == next(iter(CONVERSATIONS))
            problems.append(Problem(what=f"{kind}: {result}", blocking=first))
    profile = ChatProfile(
        training_form="trl" if chat.training_form else "own",
        ends_with=_ending(chat),
        options={name: bool(value) for name, value in chat.options.items()},
        conversations=results,
        tool_parser=tool_parser(chat),
        reasoning_parser=reasoning_parser(chat),
    )
    return profile, ends


def _tried(chat: ChatFormat, messages: tuple[Mapping[str, str], ...]) -> str:
    try:
        for at, message in enumerate(messages, start=1):
            if message["role"] == "assistant":
                chat.answered(messages[:at])
    except TemplateError as error:
        return str(error)
    return "learnt"


def _ending(chat: ChatFormat) -> str:
    try:
        ids = chat.answered(CONVERSATIONS["one turn"]).ids
    except TemplateError:
        return ""
    return str(chat.tokenizer.decode(ids)).rpartition(ANSWER["content"])[2]


def _kv_numbers(text: Any) -> int:
    """Numbers kept for each token: keys and values of all layers, or what stands for both."""
    layers = int(getattr(text, "num_hidden_layers", 0) or 0)
    latent = getattr(text, "kv_lora_rank", None)
    if latent:
        return layers * (int(latent) + int(getattr(text, "qk_rope_head_dim", 0) or 0))
    heads = int(getattr(text, "num_attention_heads", 0) or 1)
    hidden = int(getattr(text, "hidden_size", 0) or 0)
    size = int(getattr(text, "head_dim", None) or math.ceil(hidden / heads))
    return 2 * layers * int(getattr(text, "num_key_value_heads", None) or heads) * size


def _dtype(config: Any, text: Any) -> str:
    stored = getattr(config, "dtype", None) or getattr(text, "dtype", None)
    name = str(stored).removeprefix("torch.")
    return name if name in ("float32", "bfloat16", "float16") else "bfloat16"


def _architecture(config: Any) -> str:
    return str((config.architectures or [type(config).__name__])[0])


def _has_weights(base: Path) -> bool:
    return any(base.glob("*.safetensors"))


def main() -> int:
    """Prints the profile, or an object with `error`; exit code 1 then."""
    parser = argparse.ArgumentParser(prog="python -m training.base.profile", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--revision", help="the commit of a hub base")
    args = parser.parse_args()
    try:
        profile = read_profile(args.folder, revision=args.revision)
    except InvalidRequest as error:
        print(json.dumps({"error": error.message}))
        return 1
    print(json.dumps(to_json(profile)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
