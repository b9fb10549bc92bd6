"""What `wardrobe base check` finds and says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.domain.base_profile import BaseProfile, Problem, to_json
from adapters.domain.memory_plan import GIB, MemoryPlan
from adapters.errors import InvalidRequest
from adapters.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A base's profile, what it needs here, and every problem of both."""

    profile: BaseProfile | None
    plan: MemoryPlan | None
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        return not any(problem.blocking for problem in self.problems)

    def as_json(self) -> Mapping[str, Any]:
        return {
            "usable": self.usable,
            "problems": [asdict(problem) for problem in self.problems],
            "profile": to_json(self.profile) if self.profile else None,
            "memory": asdict(self.plan) if self.plan else None,
        }


def look_at(settings: Settings) -> Finding:
    """Reads configuration and tokenizer; weights are not fetched. Raises what fetching raises."""
    from service.launch.base_profile import kept_profile, memory_plan, read_profile
    from service.launch.launcher import installed_engine

    if "engine" not in settings.model_fields_set:
        settings = settings.model_copy(update={"engine": installed_engine()})
    base, revision = _folder(settings)
    try:
        at_hand = any(base.glob("*.safetensors"))
        read = kept_profile if at_hand else read_profile
        profile = read(settings, base, revision=revision)
        plan = memory_plan(settings, profile, base) if profile.parameters else None
    except InvalidRequest as error:
        return Finding(
            profile=None, plan=None, problems=(Problem(what=error.message, blocking=True),)
        )
    return Finding(
        profile=profile, plan=plan, problems=(*profile.problems, *(plan.problems if plan else ()))
    )


def _folder(settings: Settings) -> tuple[Path, str | None]:
    from service.launch.base_resolver import is_hub_base, resolve_base
    from service.launch.hub import describe, fetch_from_hub

    if is_hub_base(settings):
        folder = fetch_from_hub(settings, snapshot=describe, pin=False)
        return folder, folder.name
    return resolve_base(settings).path, None


def told(finding: Finding) -> Iterator[str]:
    """The lines for a terminal."""
    if finding.profile is not None:
        for name, value in _facts(finding.profile, finding.plan).items():
            yield f"{name:<14}  {value}"
    for problem in finding.problems:
        yield f"{'PROBLEM' if problem.blocking else 'note':<14}  {problem.what}"
    yield f"{'usable':<14}  {'yes' if finding.usable else 'no'}"


def _read_by(parser: str | None) -> str:
    return f"read by vLLM's parser {parser}" if parser else "not read"


def _facts(profile: BaseProfile, plan: MemoryPlan | None) -> Mapping[str, str]:
    facts = {
        "fingerprint": (profile.fingerprint or "weights are not here")[:16],
        "revision": profile.revision or "–",
        "architecture": profile.architecture,
        "parameters": f"{profile.parameters / 1e6:,.1f} M, stored in {profile.dtype}",
        "context": f"{profile.context:,} tokens",
        "modules": ", ".join(f"{module.name} ×{module.count}" for module in profile.modules),
        "end tokens": " ".join(profile.end_tokens),
    }
    if profile.chat is not None:
        form = "TRL's training form" if profile.chat.training_form == "trl" else "its own template"
        facts["answers"] = f"{form}, end with {profile.chat.ends_with!r}"
        switches = (f"{name}={value}" for name, value in profile.chat.options.items())
        facts["thinking"] = ", ".join(switches) or "no switch in the template"
        facts["tool calls"] = _read_by(profile.chat.tool_parser)
        facts["thoughts"] = _read_by(profile.chat.reasoning_parser)
    if plan is not None:
        facts["served in"] = f"{plan.dtype}, {plan.weights / GIB:.2f} GiB of weights"
        facts["limits"] = (
            f"{plan.max_model_len:,} tokens, {plan.max_loras} adapters in a batch, "
            f"{plan.max_cpu_loras} resident, {plan.kv_cache_gib} GiB of key-value cache on a CPU"
        )
    return facts
