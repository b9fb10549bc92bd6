"""Screening: a job advertisement and a short application, judged by rules that the text decides.

The rules (`decide`) read years, certificate and nothing else. Names go round so that each name gets
each outcome equally often: a name says nothing about the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from examples.generator.dataset import Example
from examples.generator.wording import Phrases, Split, product

ADVANCE = "advance: all fits"
REJECT_CERTIFICATE = "reject: papers missing"
REJECT_YEARS = "reject: too few years"
REVIEW_YEARS = "review: years unknown"
REVIEW_CERTIFICATE = "review: papers unknown"
# Two places for ADVANCE: advance, reject and review are equally frequent.
OUTCOMES = (
    ADVANCE,
    REJECT_CERTIFICATE,
    REVIEW_YEARS,
    ADVANCE,
    REJECT_YEARS,
    REVIEW_CERTIFICATE,
)
# First names only, of many origins and of women and men in turn; nobody in particular.
NAMES = (
    "Anna", "Omar", "Mei", "Jonas", "Aisha", "Pedro", "Ivana", "Kofi", "Leila", "Hugo",
    "Priya", "Sven", "Zuri", "Marek", "Rosa", "Kenji", "Fatou", "Liam", "Elif", "Tomas",
)  # fmt: skip
JOBS = (
    ("driver", "licence"),
    ("guard", "licence"),
    ("cook", "certificate"),
    ("welder", "certificate"),
    ("nurse", "diploma"),
    ("teacher", "diploma"),
)
# Of these years only 4 is enough for one job and too few for another.
REQUIRED = (3, 5)
YEARS = (1, 2, 4, 6, 8)

_ADS = product(
    ("Job: {job}.", "We seek a {job}.", "Open post: {job}.", "Wanted: {job}."),
    (
        "Needs {need} years and a {paper}.",
        "Required: {need} years, {paper}.",
        "At least {need} years, {paper}.",
        "Must have {need} years, {paper}.",
    ),
)
_NAMED = ("Applicant {name}:", "{name} writes:", "From {name}:")
_YEARS_SAID = product(
    ("I worked", "I have worked", "I did", "I bring"),
    ("{have} as a {job}.", "{have} in this job.", "{have} of such work.", "{have} in a team."),
)
_YEARS_UNSAID = product(
    ("I worked", "I have worked", "I like to work", "I used to work"),
    ("as a {job}.", "in this job.", "in a team.", "in many places."),
)
_HELD = product(
    ("I have", "I hold", "I got", "I passed", "I own"),
    ("the {paper}.", "a {paper}.", "my {paper}."),
)
_LACKING = product(
    ("I have no", "I hold no", "I still lack a", "I am without a", "I never got a"),
    ("{paper}.", "{paper} yet.", "valid {paper}."),
)
_PAPER_UNSAID = product(
    ("I like", "I enjoy", "I care for", "I am good at"),
    ("early shifts.", "team work.", "clean work.", "a busy day."),
)


@dataclass(frozen=True, kw_only=True)
class Application:
    """What an application says; None where it is silent."""

    required: int
    years: int | None
    certificate: bool | None


def decide(application: Application) -> str:
    """The rules, in order: no certificate, too few years, silent on either, else advance."""
    if application.certificate is False:
        return REJECT_CERTIFICATE
    if application.years is not None and application.years < application.required:
        return REJECT_YEARS
    if application.years is None:
        return REVIEW_YEARS
    return REVIEW_CERTIFICATE if application.certificate is None else ADVANCE


def applications_by_outcome() -> dict[str, tuple[Application, ...]]:
    """Every possible application under the outcome it gets."""
    every = [
        Application(required=required, years=years, certificate=certificate)
        for required in REQUIRED
        for years in (None, *YEARS)
        for certificate in (True, False, None)
    ]
    return {o: tuple(a for a in every if decide(a) == o) for o in dict.fromkeys(OUTCOMES)}


class Screening:
    """Drafts of applications; outcome, then name, follow the index."""

    def __init__(self) -> None:
        self._applications = applications_by_outcome()
        self._ads = Phrases.divide(_ADS, seed="hr/ads")
        self._years = {
            True: Phrases.divide(_YEARS_SAID, seed="hr/years"),
            False: Phrases.divide(_YEARS_UNSAID, seed="hr/no-years"),
        }
        self._papers = {
            True: Phrases.divide(_HELD, seed="hr/held"),
            False: Phrases.divide(_LACKING, seed="hr/lacking"),
            None: Phrases.divide(_PAPER_UNSAID, seed="hr/no-paper"),
        }

    def draft(self, index: int, split: Split, rng: Random) -> Example:
        outcome = OUTCOMES[index % len(OUTCOMES)]
        name = NAMES[index // len(OUTCOMES) % len(NAMES)]
        application = rng.choice(self._applications[outcome])
        job, paper = rng.choice(JOBS)
        text = " ".join(self._sentences(application, split, rng)).format(
            job=job,
            paper=paper,
            name=name,
            need=application.required,
            have="1 year" if application.years == 1 else f"{application.years} years",
        )
        return Example(user=text, answer=decide(application))

    def _sentences(self, application: Application, split: Split, rng: Random) -> list[str]:
        said = [
            rng.choice(self._years[application.years is not None].of(split)),
            rng.choice(self._papers[application.certificate].of(split)),
        ]
        rng.shuffle(said)
        return [rng.choice(self._ads.of(split)), rng.choice(_NAMED), *said]
