"""Business units: one YAML file each, read as a folder, all mistakes reported at once.

The folder is configuration (a ConfigMap in a cluster) and may change while the service runs; a
folder with a mistake in it is refused whole, so that nothing half-read ever takes effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from adapters.domain.data_policy import DataPolicy
from adapters.domain.gates import GatePolicy
from adapters.domain.limits import MAX_LIMIT, KeyLimits, Limits, Quota
from adapters.domain.names import Alias, Unit, is_name
from adapters.domain.principals import Grant, Role, Scope
from adapters.domain.recipes import RecipeOverrides
from adapters.errors import InvalidRequest, NotFound, WardrobeError

MAX_FILE = 256 * 1024
"""Bytes of one unit's YAML; more is a mistake."""


def _check_name(text: str) -> str:
    if not is_name(text):
        raise ValueError("must be 1 to 40 of a-z, 0-9 and -, beginning with a letter")
    return text


def _check_not_a_role(text: str) -> str:
    # A unit's key would read like the role's, in the key itself and in keys.json.
    if text in (Role.ADMIN, Role.TRAINER):
        raise ValueError(f"`{text}` is the name of a role; call the unit something else")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
UnitName = Annotated[Name, AfterValidator(_check_not_a_role)]


class UnitLimits(BaseModel):
    """What a unit may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_file_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1, le=8 * 1024**3, description="Size of one uploaded file."
    )
    min_examples: int = Field(default=10, ge=1, description="Fewest training examples of a job.")
    max_examples: int = Field(default=100_000, ge=1, description="Most training examples of a job.")
    max_concurrent_requests: int = Field(
        default=256,
        ge=1,
        description="Requests in flight over all replicas; more are answered 429.",
    )
    max_concurrent_sequences: int = Field(
        default=512, ge=1, description="Their answers: a request's prompts times its `n`."
    )
    requests_per_minute: int = Field(
        default=600_000, ge=1, le=MAX_LIMIT, description="Requests in any minute."
    )
    tokens_per_minute: int = Field(
        default=100_000_000, ge=1, le=MAX_LIMIT, description="Tokens of prompts and answers."
    )
    tokens_per_day: int | None = Field(
        default=None, ge=0, le=MAX_LIMIT, description="Budget of a day (UTC); none: no budget."
    )
    tokens_per_month: int | None = Field(
        default=None, ge=0, le=MAX_LIMIT, description="The same of a calendar month."
    )
    per_key: KeyLimits | None = Field(
        default=None, description="The same for each of the unit's keys, within the unit's."
    )
    weight: float = Field(
        default=1.0, gt=0.0, le=1000.0, description="Share of a saturated engine, beside others'."
    )

    @property
    def limits(self) -> Limits:
        """Those that a request is admitted by."""
        return Limits.of(
            {
                Quota.REQUESTS_PER_MINUTE: self.requests_per_minute,
                Quota.TOKENS_PER_MINUTE: self.tokens_per_minute,
                Quota.CONCURRENT_REQUESTS: self.max_concurrent_requests,
                Quota.CONCURRENT_SEQUENCES: self.max_concurrent_sequences,
                Quota.TOKENS_PER_DAY: self.tokens_per_day,
                Quota.TOKENS_PER_MONTH: self.tokens_per_month,
            },
            weight=self.weight,
        )


class CardWords(BaseModel):
    """What the model cards of a unit's versions say beside what is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intended_use: str = Field(
        default="", max_length=2000, description="What its versions are for, and for whom."
    )
    limits: str = Field(
        default="", max_length=2000, description="What they are not for, and where they are weak."
    )
    license: str = Field(
        default="other",
        pattern=r"^[a-z0-9][a-z0-9.+-]{0,39}$",
        description="Hugging Face's word for the licence of its versions.",
    )
    language: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = Field(
        default=(), max_length=16, description="What its versions speak, by ISO codes."
    )


class UnitConfig(BaseModel):
    """One business unit as its YAML file says it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: UnitName
    display_name: str = Field(default="", max_length=120)
    aliases: tuple[Name, ...] = Field(min_length=1, max_length=64)
    recipe: RecipeOverrides = RecipeOverrides()
    gates: GatePolicy = GatePolicy()
    limits: UnitLimits = UnitLimits()
    data: DataPolicy = DataPolicy()
    card: CardWords = CardWords()


class InvalidUnits(WardrobeError):
    """The units folder has mistakes; `problems` lists every one as `file: field: what`."""

    code = "invalid_units"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("the units folder cannot be used:\n  " + "\n  ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Units:
    """Every unit, and whose each alias is."""

    by_name: Mapping[Unit, UnitConfig]
    owner_of: Mapping[Alias, Unit]
    folder: Path = Path()
    """Where their files lie, and those that they name."""

    def get(self, unit: str) -> UnitConfig:
        """Raises NotFound."""
        try:
            return self.by_name[Unit(unit)]
        except KeyError:
            raise NotFound(f"there is no unit `{unit}`", code="unit_not_found") from None


def grant_in(
    units: Units, unit: str | None, *, scopes: Sequence[str], aliases: Sequence[str] | None
) -> Grant:
    """What these words grant, as a caller says them.

    Raises NotFound for a unit, InvalidRequest for a scope or an alias that is none.
    """
    owner = None if unit is None else Unit(units.get(unit).unit)
    known = {scope.value: scope for scope in Scope}
    if not set(scopes) <= known.keys():
        raise InvalidRequest(f"`scopes` are some of {', '.join(known)}", param="scopes")
    if any(owner is None or units.owner_of.get(Alias(alias)) != owner for alias in aliases or ()):
        raise InvalidRequest("`aliases` are some of the unit's", param="aliases")
    return Grant(
        role=Role.ADMIN if owner is None else Role.UNIT,
        unit=owner,
        scopes=frozenset(known[name] for name in scopes),
        aliases=None if aliases is None else frozenset(map(Alias, aliases)),
    )


def load_units(folder: Path) -> Units:
    """Reads every `*.yaml` of `folder`. Raises InvalidUnits with all mistakes of all files."""
    problems: list[str] = []
    files = sorted({*folder.glob("*.yaml"), *folder.glob("*.yml")}) if folder.is_dir() else []
    if not files:
        raise InvalidUnits((f"{folder}: no *.yaml file here; write one per business unit",))
    units: dict[Unit, UnitConfig] = {}
    owner_of: dict[Alias, Unit] = {}
    for path in files:
        config = _load_one(path, problems)
        if config is None:
            continue
        if Unit(config.unit) in units:
            problems.append(f"{path.name}: unit: `{config.unit}` is defined by another file too")
            continue
        units[Unit(config.unit)] = config
        for alias in config.aliases:
            owner = owner_of.setdefault(Alias(alias), Unit(config.unit))
            if owner != config.unit:
                problems.append(f"{path.name}: aliases: `{alias}` belongs to unit `{owner}`")
    if problems:
        raise InvalidUnits(tuple(problems))
    return Units(MappingProxyType(units), MappingProxyType(owner_of), folder)


class _Loader(yaml.SafeLoader):
    """Plain YAML that notes the keys a mapping has twice; YAML's own answer is the last value."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here, and not where the dict is made: there, what `<<` merges in is a key like any other.
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        found = Counter((key.tag, key.value) for key in keys)
        self.repeated += [name for (_, name), times in found.items() if times > 1]
        return node


def _read(path: Path, problems: list[str]) -> dict[Any, Any]:
    """The file's mapping. Raises OSError, ValueError, YAMLError."""
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"larger than {MAX_FILE} bytes")
    loader = _Loader(path.read_text("utf-8"))
    try:
        document = loader.get_single_data()
    finally:
        loader.dispose()
    problems += [f"{path.name}: {key}: is there more than once" for key in loader.repeated]
    if not isinstance(document, dict):
        raise ValueError("must be a mapping")
    return document


def _load_one(path: Path, problems: list[str]) -> UnitConfig | None:
    try:
        document = _read(path, problems)
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems.append(f"{path.name}: {' '.join(str(error).split())}")
        return None
    try:
        return UnitConfig.model_validate(document)
    except ValidationError as error:
        for mistake in error.errors(include_input=False, include_url=False):
            field = ".".join(str(part) for part in mistake["loc"]) or "(file)"
            problems.append(f"{path.name}: {field}: {mistake['msg']}")
        return None
