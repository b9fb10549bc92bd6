"""How much of the personal data and of the secrets in records is found, and how much else is taken.

    python -m benchmarks.redaction [--records 2000] [--seed 7] [--without-directory] [--json]

Makes records of customer service in which it knows where every entity stands: written as people
write them, at the edges of sentences, in brackets, in quotes, beside numbers that only look like
one. Runs a unit's screen with its default policy and a directory of half of the people, and prints
recall and precision for each kind: by characters of a kind that were taken, so that half a number
found is no number found. Names outside the directory are counted as a kind of their own: without a
language model they are not found, and this says so. With `--names-model` an installed spaCy package
is used as well.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.domain.data_policy import DataPolicy, Entity
from training.data.redact import Screen, screen_for
from training.data.spans import Span

KNOWN, UNKNOWN, SECRET = "PERSON (in the directory)", "PERSON (in none)", "SECRET"
FIRST = (
    "Anna Jürgen Zoë Liam Priya Chidi Mei Łukasz Fatima Diego Søren Nadia Omar Ingrid Paolo Aoife"
)
LAST = (
    "Schmidt Groß O'Neill Nguyen Kowalski García Okafor Lindqvist Rossi Haddad Novák Müller-Lang "
    "Tanaka"
)
FRAMES = (
    "Please write to {}.",
    "{} is what I gave you last week",
    "My details ({}) have changed.",
    'You sent it to "{}", which is wrong',
    "Order 55123347 of 2026-03-14, 10:30: {}; total 1,299.00",
    "contact:{}",
    "See section 4.2.1, version 3.10.2. {}!",
    "{}, please. Room 12, 3rd floor.",
)
DECOYS = (
    "Order 4111222233334445 was sent on 2026-11-26 at 10:30.",
    "The part number is 12-345-6789-0 and the price 1.299,00 €.",
    "Version 1.2.3 of 10/11/2025, section 4.2.1.1.9.",
    "The password is required. A token of thanks, the secret of success.",
    "Will it work on Monday? Mark my words, we may rise.",
    "Invoice 2026-000123456, customer since 2019, 24 months, 12 x 30 cm.",
    "Call us between 8:00 and 18:00, 7 days, 365 days a year.",
    "Ticket ABCD1234567890 moved to queue DE01 by rule 17.",
)
MIN_RECALL, MIN_PRECISION = 0.97, 0.97
"""Of each kind that has a form or stands in a directory; less and the exit code is 1."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Where something stands in a record."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one kind fared."""

    planted: int
    found: int
    """Planted ones that were taken as a whole."""
    right: int
    taken: int
    """Places taken as this kind, and those of them where one stood."""

    @property
    def recall(self) -> float:
        return self.found / self.planted if self.planted else 1.0

    @property
    def precision(self) -> float:
        return self.right / self.taken if self.taken else 1.0


def people(draw: random.Random, count: int) -> list[str]:
    """Different names of two words."""
    names = [f"{first} {last}" for first in FIRST.split() for last in LAST.split()]
    return draw.sample(names, count)


class Writer:
    """Writes one entity of a kind, as people do."""

    def __init__(self, draw: random.Random, listed: list[str], others: list[str]) -> None:
        self._draw = draw
        self.by_kind: dict[str, Callable[[], str]] = {
            Entity.EMAIL: self.email,
            Entity.PHONE: self.phone,
            Entity.CARD: self.card,
            Entity.IBAN: self.iban,
            Entity.IP: self.address,
            Entity.SSN: self.ssn,
            Entity.ID: lambda: f"K-{draw.randrange(len(listed)) + 10_000}",
            KNOWN: lambda: self.name(listed),
            UNKNOWN: lambda: self.name(others),
            SECRET: self.secret,
        }

    def digits(self, count: int) -> str:
        return "".join(self._draw.choices("0123456789", k=count))

    def email(self) -> str:
        draw = self._draw
        name = draw.choice(["a.b", "info+eu", "j_doe", "müller", "x", "first.last-name"])
        host = draw.choice(["firma.de", "mail.example.co.uk", "corp.local", "a-b.io", "mailhost"])
        return f"{name}{draw.randint(1, 99)}@{host}"

    def phone(self) -> str:
        draw = self._draw
        return draw.choice(
            [
                f"+49 30 {draw.randint(2, 9)}{self.digits(6)}",
                f"+1 (212) {draw.randint(200, 999)}-{self.digits(4)}",
                f"(415) {draw.randint(200, 999)}-{self.digits(4)}",
                f"020 7946 0{draw.randint(100, 999)}",
                f"+33 1 {' '.join(f'{draw.randint(10, 99)}' for _ in range(4))}",
                f"0151 {draw.randint(10000000, 99999999)}",
                f"+44{draw.choice(['7911', '7700'])}{self.digits(6)}",
            ]
        )

    def card(self) -> str:
        number = _with_luhn((self._draw.choice(["4", "51", "55"]) + self.digits(15))[:15])
        gap = self._draw.choice(["", " ", "-"])
        return gap.join(number[at : at + 4] for at in range(0, 16, 4))

    def iban(self) -> str:
        country = self._draw.choice(["DE", "GB", "FR", "NL"])
        bodies = {"DE": self.digits(18), "FR": self.digits(23)}
        bodies |= {"GB": f"WEST{self.digits(14)}", "NL": f"ABNA{self.digits(10)}"}
        number = _with_iban_check(country, bodies[country])
        if self._draw.random() < 0.5:
            return " ".join(number[at : at + 4] for at in range(0, len(number), 4))
        return number

    def address(self) -> str:
        draw = self._draw
        four = ".".join(str(draw.randint(1, 254)) for _ in range(4))
        six = f"2001:db8:{draw.randrange(16**4):x}::{draw.randrange(1, 16**4):x}"
        return draw.choice([four, six])

    def ssn(self) -> str:
        draw = self._draw
        return f"{draw.randint(100, 665)}-{draw.randint(10, 99)}-{draw.randint(1000, 9999)}"

    def name(self, names: list[str]) -> str:
        chosen = self._draw.choice(names)
        first, last = chosen.split()
        return self._draw.choice([chosen, chosen, f"{last}, {first}", chosen.upper()])

    def secret(self) -> str:
        body = "".join(self._draw.choices(string.ascii_letters + string.digits, k=40))
        upper = "".join(self._draw.choices(string.ascii_uppercase, k=16))
        return self._draw.choice(
            [
                f"ghp_{body[:36]}",
                f"AKIA{upper}",
                f"sk-{body}",
                f"eyJ{body[:20]}.eyJ{body[:30]}.{body}",
                f"glpat-{body[:20]}",
            ]
        )


def records(
    draw: random.Random, count: int, make: Mapping[str, Callable[[], str]]
) -> Iterator[tuple[str, list[Planted]]]:
    """Texts of one or two sentences with one entity each, among sentences without any."""
    kinds = sorted(make)
    for number in range(count):
        text, planted = "", []
        for kind in draw.sample(kinds, 1 + number % 2):
            if draw.random() < 0.7:
                text += draw.choice(DECOYS) + " "
            before, after = draw.choice(FRAMES).split("{}")
            value = make[kind]()
            start = len(text) + len(before)
            text += f"{before}{value}{after} "
            planted.append(Planted(kind=kind, start=start, end=start + len(value)))
        yield text, planted


def measure(screen: Screen, made: list[tuple[str, list[Planted]]]) -> dict[str, Score]:
    """By kind, over all records."""
    counts = {name: Counter[str]() for name in ("planted", "found", "right", "taken")}
    for text, planted in made:
        spans = screen.spans(text)
        for each in planted:
            counts["planted"][each.kind] += 1
            counts["found"][each.kind] += _is_taken(each, spans)
        for span in spans:
            kind = _kind(span)
            counts["taken"][kind] += 1
            counts["right"][kind] += any(_touch(span, each) for each in planted)
    kinds = {*counts["planted"], *counts["taken"]}
    return {
        kind: Score(**{name: counter[kind] for name, counter in counts.items()})
        for kind in sorted(kinds)
    }


def main() -> int:
    """Prints a table; 1 where a kind that ought to be found is not."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.redaction")
    arguments.add_argument("--records", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--without-directory", action="store_true")
    arguments.add_argument("--names-model", default="")
    arguments.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = arguments.parse_args()
    draw = random.Random(chosen.seed)
    names = people(draw, 120)
    listed, others = names[:60], names[60:]
    made = list(records(draw, chosen.records, Writer(draw, listed, others).by_kind))
    with tempfile.TemporaryDirectory() as folder:
        screen = screen_in(
            Path(folder), [] if chosen.without_directory else listed, chosen.names_model
        )
        began = time.process_time()
        scores = measure(screen, made)
        micros = (time.process_time() - began) / len(made) * 1e6
    print(as_json(scores, micros) if chosen.json else as_table(scores, micros))
    return int(not good(scores, directory=not chosen.without_directory))


def screen_in(folder: Path, listed: list[str], names_model: str = "") -> Screen:
    """The default policy with a directory of these people."""
    people_in = (f'"{name}",K-{number + 10_000}\n' for number, name in enumerate(listed))
    (folder / "people.csv").write_text("name,id\n" + "".join(people_in), "utf-8")
    policy = DataPolicy(directories=("people.csv",), names_model=names_model)
    return screen_for(policy, folder=folder, key=b"benchmark of redaction")


def good(scores: Mapping[str, Score], *, directory: bool = True) -> bool:
    """Whether every kind that has a form, or stands in the directory, is found."""
    by_directory = {KNOWN, Entity.ID}
    wanted = [
        score
        for kind, score in scores.items()
        if kind != UNKNOWN and (directory or kind not in by_directory)
    ]
    return all(each.recall >= MIN_RECALL and each.precision >= MIN_PRECISION for each in wanted)


def as_table(scores: Mapping[str, Score], micros: float) -> str:
    """For people."""
    lines = [f"{'kind':<28}{'planted':>8}{'recall':>9}{'taken':>8}{'precision':>11}"]
    lines += [
        f"{kind:<28}{score.planted:>8}{score.recall:>9.3f}{score.taken:>8}{score.precision:>11.3f}"
        for kind, score in scores.items()
    ]
    return "\n".join([*lines, f"{micros:.0f} microseconds of CPU a record"])


def as_json(scores: Mapping[str, Score], micros: float) -> str:
    """For machines."""
    by_kind = {
        kind: {
            "planted": score.planted,
            "recall": round(score.recall, 4),
            "taken": score.taken,
            "precision": round(score.precision, 4),
        }
        for kind, score in scores.items()
    }
    return json.dumps({"kinds": by_kind, "microseconds_a_record": round(micros, 1)})


def _kind(span: Span) -> str:
    if span.entity is None:
        return SECRET
    return KNOWN if span.entity is Entity.PERSON else span.entity


def _is_taken(planted: Planted, spans: list[Span]) -> bool:
    """Whether every character of it is gone, whatever it was taken for."""
    gone = {at for span in spans for at in range(span.start, span.end)}
    return all(at in gone for at in range(planted.start, planted.end))


def _touch(span: Span, planted: Planted) -> bool:
    return span.start < planted.end and planted.start < span.end


def _with_luhn(body: str) -> str:
    digits = [int(digit) for digit in reversed(body)]
    total = sum(sum(divmod(2 * d, 10)) if at % 2 == 0 else d for at, d in enumerate(digits))
    return body + str(-total % 10)


def _with_iban_check(country: str, body: str) -> str:
    letters = "".join(str(int(sign, 36)) for sign in f"{body}{country}00")
    return f"{country}{98 - int(letters) % 97:02d}{body}"


if __name__ == "__main__":
    sys.exit(main())
