"""What a unit allows in its training data, and what becomes of the rest.

Patterns and directories cost next to nothing and are on by default; names that stand in no
directory need a language model, which is on where the unit names one that is installed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from adapters.errors import InvalidRequest

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(csv|txt)")
_MODEL = re.compile(r"[a-z][a-z0-9_]{0,60}")


class PersonalData(StrEnum):
    """What becomes of personal data that is found in prompts and answers."""

    REDACT = "redact"
    """A pseudonym takes its place, the same one wherever it stands."""
    REFUSE = "refuse"
    """The file is refused, naming the lines."""
    ALLOW = "allow"
    """It is learnt. Somebody has approved that, by name."""


class Secrets(StrEnum):
    """What becomes of keys, tokens and passwords."""

    REDACT = "redact"
    """A mark takes their place, and the owner is told to change them."""
    REFUSE = "refuse"
    """The file is refused, naming the lines."""


class TooLong(StrEnum):
    """What becomes of examples that are longer than the recipe's `max_length`. None is ever cut."""

    REFUSE = "refuse"
    """The file is refused, naming the lines."""
    DROP = "drop"
    """They are left out and counted."""


class Balance(StrEnum):
    """What becomes of labels that are rarer than others."""

    OFF = "off"
    """They are shown and told."""
    OVERSAMPLE = "oversample"
    """Examples of rare labels are shown several times in an epoch."""
    REWEIGHT = "reweight"
    """The loss of examples of rare labels counts several times. Supervised jobs only."""


class Entity(StrEnum):
    """A kind of personal data. The words are Presidio's."""

    EMAIL = "EMAIL_ADDRESS"
    PHONE = "PHONE_NUMBER"
    CARD = "CREDIT_CARD"
    IBAN = "IBAN_CODE"
    IP = "IP_ADDRESS"
    SSN = "US_SSN"
    PERSON = "PERSON"
    """From directories, and from a language model where the unit names one."""
    LOCATION = "LOCATION"
    """From a language model, and from directories' addresses."""
    ID = "ID"
    """From directories: numbers of staff and customers."""


class Approval(BaseModel):
    """Who has approved that personal data is learnt, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str = Field(min_length=1, max_length=120, description="A person's name or role.")
    reason: str = Field(min_length=1, max_length=500, description="Why it may be learnt.")


def _check_file(name: str) -> str:
    if not _FILE.fullmatch(name):
        raise ValueError("must be the plain name of a .csv or .txt file beside the unit's file")
    return name


def _check_model(name: str) -> str:
    if name and not _MODEL.fullmatch(name):
        raise ValueError("must be the name of an installed spaCy package, such as en_core_web_sm")
    return name


class DataPolicy(BaseModel):
    """What a unit's training data may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    personal_data: PersonalData = PersonalData.REDACT
    approval: Approval | None = Field(
        default=None, description="Needed by `personal_data: allow`, and kept in the lineage."
    )
    entities: frozenset[Entity] = Field(
        default=frozenset(Entity), description="The kinds that are looked for."
    )
    directories: tuple[Annotated[str, AfterValidator(_check_file)], ...] = Field(
        default=(), max_length=8, description="Files of staff or customers beside the unit's file."
    )
    names_model: Annotated[str, AfterValidator(_check_model)] = Field(
        default="", description="Installed spaCy package that finds names and places; none: off."
    )
    phone_regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = Field(
        default=("US", "GB", "DE", "FR"), description="Whose national phone numbers are known."
    )
    secrets: Secrets = Secrets.REDACT
    near_duplicates: float = Field(
        default=0.85, gt=0.5, le=1.0, description="Likeness from which two examples repeat; 1: off."
    )
    too_long: TooLong = TooLong.REFUSE
    balance: Balance = Balance.OFF
    learning_curve: bool = Field(
        default=False,
        description="Train on a quarter and a half of small data too, to tell what more would buy.",
    )

    def check_method(self, *, supervised: bool) -> None:
        """Raises InvalidRequest (`method`) where a job's method cannot be balanced so."""
        if self.balance is Balance.REWEIGHT and not supervised:
            raise InvalidRequest(
                "the unit's `data.balance: reweight` weighs the loss of answers, token by token: "
                "use the method `supervised`, or have the unit set `oversample` or `off`",
                param="method",
            )

    @model_validator(mode="after")
    def _approved(self) -> Self:
        if self.personal_data is PersonalData.ALLOW and self.approval is None:
            raise ValueError("`personal_data: allow` needs an `approval` with `by` and `reason`")
        return self
