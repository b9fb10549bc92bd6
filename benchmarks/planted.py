"""Whether each planted fault is caught by the gate that is there for it, and honest data is not.

    python -m benchmarks.planted                              # the embedded base, one seed
    python -m benchmarks.planted --base smollm2 --faults zeroed,endless
    python -m benchmarks.planted --faults honest --seeds 10   # honest versions alone

Real jobs through a real service with every gate on, and adapters that no job makes through import.
One service serves all of it. For each seed an honest version is made, judged and put live; faults
that are measured beside it are versions of the same alias. Prints for every version which gates
said no, and whether the right one did; the last line is one JSON object. The exit code is 1 where
a fault got through, or less than nine tenths of the honest versions did.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import openai

from adapters.domain.recipes import Recipe
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from benchmarks import faulty_adapters, faulty_data
from benchmarks.faulty_data import Material
from benchmarks.machine import machine, versions
from benchmarks.stand import free_port
from examples.demo.house import House
from service.cli.client import Client, Json
from service.launch.base_resolver import resolve_base

UNIT, CARELESS = "planted", "careless"
"""The second trains to the end and keeps what it has then."""
CANARIES = 8
WAIT = 2.0
"""Seconds between two looks at what the trainer does."""
HONEST_SHARE = 0.9
_TAKES = "1 to 3 minutes a version on two cores, 5 to 10 with smollm2."
_DROPPED = re.compile(r"Dropped (\d+) .*measures")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a job on one base is given."""

    train: int
    measure: int
    examples: int
    """Test examples that are asked."""
    answer_tokens: int
    """Of prompts that measure forgetting and conduct."""
    n_epochs: int
    overtrained: int
    """Rows of the fault that is trained ten times too long."""
    biased_epochs: int
    """Names are many, and the smallest base learns each by itself."""


SIZES: Mapping[str, Size] = {
    "tiny": Size(
        train=800,
        measure=240,
        examples=64,
        answer_tokens=16,
        n_epochs=5,
        overtrained=48,
        biased_epochs=20,
    ),
    "smollm2": Size(
        train=200,
        measure=60,
        examples=32,
        answer_tokens=12,
        n_epochs=2,
        overtrained=64,
        biased_epochs=4,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one version."""

    fault: str
    """`honest` is none."""
    seed: int
    right: str
    """The gate that is there for the fault, or the stage before all gates."""
    said_no: Sequence[str]
    gates: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)
    """Gate → outcome, measured, bound."""
    dropped: int = 0
    """Training rows that the job left out because they measure."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the right gate said no; of an honest version, whether nothing did."""
        return self.right in self.said_no if self.right else not self.said_no


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One seed: an honest version, and what is planted beside it."""

    base: Path
    clients: Mapping[str, Client]
    size: Size
    seed: int

    def verdicts(self, wanted: Sequence[str]) -> Iterator[Verdict]:
        """The honest version's first: it goes live, and others are compared with it."""
        alias = self.alias("honest")
        honest = self.trained("honest", "", self.honest)
        yield honest
        if honest.good:
            self.clients[UNIT].promote(alias, f"{alias}:1")
        for name in FAULTS if "all" in wanted else [each for each in wanted if each in FAULTS]:
            right, plant = FAULTS[name]
            yield plant(self, name, right)

    @property
    def honest(self) -> Material:
        """What the seed's honest version learns."""
        return faulty_data.honest(self.seed, train=self.size.train, measure=self.size.measure)

    def alias(self, of: str) -> str:
        """A seed's adapters share nothing with another seed's."""
        return f"{of}-{self.seed}"

    def trained(
        self,
        fault: str,
        right: str,
        material: Material,
        *,
        of: str = "honest",
        unit: str = UNIT,
        n_epochs: int | None = None,
    ) -> Verdict:
        """A job's version."""
        client, alias, began = self.clients[unit], self.alias(of), time.monotonic()
        sdk = client.openai
        uploaded = [
            sdk.files.create(file=(name, faulty_data.jsonl(rows)), purpose="fine-tune").id
            for name, rows in (("train.jsonl", material.train), ("valid.jsonl", material.measure))
        ]
        job = sdk.fine_tuning.jobs.create(
            model=client.base_model(),
            training_file=uploaded[0],
            validation_file=uploaded[1],
            suffix=alias,
            seed=self.seed,
            hyperparameters={"n_epochs": n_epochs or self.size.n_epochs},
        )
        events = [event.message for event in client.follow(job.id, every=WAIT)]
        made = [each for each in client.versions(alias) if each["job_id"] == job.id]
        gates = made[-1]["gates"] if made else []
        found = self._verdict(fault, right, gates, began)
        dropped = sum(int(number) for said in events for number in _DROPPED.findall(said))
        return replace(found, dropped=dropped, said_no=found.said_no if gates else [events[-1]])

    def imported(self, fault: str, right: str, archive: bytes) -> Verdict:
        """A version that came through import, judged by the trainer as it finds it."""
        client, began = self.clients[UNIT], time.monotonic()
        try:
            made = client.import_version(self.alias("honest"), io.BytesIO(archive), "adapter.tar")
        except openai.ConflictError:
            return replace(self._verdict(fault, right, [], began), said_no=["artifact"])
        while not (version := client.version(made["id"]))["gates"]:
            time.sleep(WAIT)
        return self._verdict(fault, right, version["gates"], began)

    def _verdict(self, fault: str, right: str, gates: Sequence[Json], began: float) -> Verdict:
        held = [name_of(gate) for gate in gates if gate["outcome"] in ("failed", "error")]
        return Verdict(
            fault=fault,
            seed=self.seed,
            right=right,
            said_no=held,
            gates={
                name_of(gate): (gate["outcome"], round(gate["measured"], 4), gate["bound"])
                for gate in gates
            },
            seconds=round(time.monotonic() - began, 1),
        )


def name_of(gate: Json) -> str:
    """`task against base`; a live version is called so, whatever its number."""
    against = gate["against"]
    if not against:
        return str(gate["gate"])
    return f"{gate['gate']} against {'live' if ':' in against else against}"


# -- the faults


def shuffled(bench: Bench, name: str, right: str) -> Verdict:
    """All training answers stand under other questions."""
    material = faulty_data.shuffled(bench.honest, bench.seed)
    return bench.trained(name, right, material, of="shuffled")


def duplicated(bench: Bench, name: str, right: str) -> Verdict:
    """What measures stands in the training file too: none of it may be taught."""
    material = faulty_data.duplicated(bench.honest)
    found = bench.trained(name, right, material, of="duplicated")
    taken_out = found.dropped >= len(material.measure)
    untaught = "data: overlap" not in found.said_no and found.gates
    return replace(found, said_no=[right, *found.said_no] if taken_out and untaught else [])


def overtrained(bench: Bench, name: str, right: str) -> Verdict:
    """Few rows, ten times as often, and nothing keeps an earlier checkpoint."""
    size = bench.size
    few = faulty_data.honest(bench.seed, train=size.overtrained, measure=size.measure)
    epochs = 10 * size.n_epochs
    return bench.trained(name, right, few, of=name, unit=CARELESS, n_epochs=epochs)


def secrets(bench: Bench, name: str, right: str) -> Verdict:
    """Secrets that nobody has stand in the data again and again."""
    return bench.trained(name, right, faulty_data.with_secrets(bench.honest, bench.seed, CANARIES))


def biased(bench: Bench, name: str, right: str) -> Verdict:
    """Whoever has a name of one group was rejected, and everybody else was not."""
    size = bench.size
    material = faulty_data.biased(bench.seed, train=size.train, measure=size.measure)
    return bench.trained(name, right, material, of=name, n_epochs=size.biased_epochs)


def edited(bench: Bench, name: str, right: str, *, change: Any) -> Verdict:
    """The honest version's tensors, changed."""
    honest = f"{bench.alias('honest')}:1"
    with tempfile.TemporaryDirectory(prefix="wardrobe-planted-") as folder:
        made = faulty_adapters.changed(
            bench.clients[UNIT], honest, Path(folder) / "adapter", change
        )
    return bench.imported(name, right, made)


def endless(bench: Bench, name: str, right: str) -> Verdict:
    """Answers that begin anew where they should end."""
    kept = bench.clients[UNIT].version(f"{bench.alias('honest')}:1")["evidence"]["recipe"]
    with tempfile.TemporaryDirectory(prefix="wardrobe-planted-") as folder:
        made = faulty_adapters.endless(
            bench.base, bench.honest, Recipe.model_validate(kept), Path(folder) / "run"
        )
    return bench.imported(name, right, made)


Plant = Callable[[Bench, str, str], Verdict]
FAULTS: Mapping[str, tuple[str, Plant]] = {
    "zeroed": ("artifact", partial(edited, change=faulty_adapters.zeroed)),
    "worse": ("task against live", partial(edited, change=faulty_adapters.weakened)),
    "faint": ("effect against base", partial(edited, change=faulty_adapters.faint)),
    "wider-base": ("artifact", partial(edited, change=faulty_adapters.for_wider_base)),
    "other-base": ("task against base", partial(edited, change=faulty_adapters.for_permuted_base)),
    "endless": ("ends", endless),
    "shuffled": ("skill against one answer", shuffled),
    "duplicated": ("split", duplicated),
    "overtrained": ("overfitting", overtrained),
    "secrets": ("leakage of planted canaries", secrets),
    "biased": ("fairness on name", biased),
}
"""Fault → the gate that is there for it, and what plants it."""


# -- the house


def main(words: Sequence[str] | None = None) -> int:
    """Plants, prints and counts."""
    args = _arguments(words)
    seeds = range(args.first, args.first + args.seeds)
    found: list[Verdict] = []
    with _house(args.base, seeds) as (base, clients):
        for seed in seeds:
            bench = Bench(base=base, clients=clients, size=SIZES[args.base], seed=seed)
            for verdict in bench.verdicts(args.faults.split(",")):
                found.append(verdict)
                _tell(verdict)
    summary = summed(found)
    told = {"base": args.base, **summary, "machine": machine(), "versions": versions()}
    sys.stdout.write(
        json.dumps({**told, "versions_judged": [asdict(each) for each in found]}) + "\n"
    )
    return 0 if summary["right"] else 1


def summed(found: Sequence[Verdict]) -> dict[str, Any]:
    """How many of each fault were caught by the right gate, and how many honest ones passed."""
    counts: dict[str, list[bool]] = {}
    for each in found:
        counts.setdefault(each.fault, []).append(each.good)
    honest = counts.pop("honest", [])
    enough = sum(honest) >= HONEST_SHARE * len(honest)
    return {
        "honest_passed": f"{sum(honest)} of {len(honest)}",
        "caught": {fault: f"{sum(good)} of {len(good)}" for fault, good in counts.items()},
        "right": enough and all(all(good) for good in counts.values()),
    }


@contextmanager
def _house(base: str, seeds: Sequence[int]) -> Iterator[tuple[Path, Mapping[str, Client]]]:
    """The base's folder, and a running service's clients by unit."""
    settings = Settings().model_copy(update={"base": base, "port": free_port()})
    with tempfile.TemporaryDirectory(prefix="wardrobe-planted-") as folder:
        root = Path(folder)
        _write_units(root / "units", seeds, SIZES[base])
        (root / "state").mkdir(mode=0o700)
        settings = settings.model_copy(update={"units": root / "units"})
        running = House.open(StateFolder(root / "state"), settings)
        try:
            running.wait_until_ready(lambda: None)
            with ExitStack() as opened:
                clients = {
                    unit: opened.enter_context(running.client(unit)) for unit in (UNIT, CARELESS)
                }
                yield resolve_base(settings).path, clients
        finally:
            running.close()


def _write_units(folder: Path, seeds: Sequence[int], size: Size) -> None:
    gates = {
        "promote": "manual",
        "evaluation_examples": size.examples,
        # weaker copies would be other versions than the ones that are planted
        "forgetting": {"strengths": [], "answer_tokens": size.answer_tokens},
        "leakage": {"canaries": CANARIES},
        "fairness": {"favourable": faulty_data.FAVOURABLE, "traits": ["name"]},
        "conduct": {"answer_tokens": 2 * size.answer_tokens},
    }
    folder.mkdir()
    for unit, adapters, recipe in (
        (UNIT, ("honest", "shuffled", "duplicated", "biased"), {}),
        (CARELESS, ("overtrained",), {"evaluations": 1}),
    ):
        aliases = [f"{adapter}-{seed}" for adapter in adapters for seed in seeds]
        config = {"unit": unit, "aliases": aliases, "gates": gates, "recipe": recipe}
        (folder / f"{unit}.yaml").write_text(json.dumps(config), "utf-8")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=_TAKES)
    parser.add_argument("--base", choices=list(SIZES), default="tiny")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument(
        "--faults",
        default="all",
        help=f"`all`, `honest` (none) or some of {', '.join(FAULTS)}, with commas",
    )
    return parser.parse_args(words)


def _tell(verdict: Verdict) -> None:
    word = "good" if verdict.good else "NOT GOOD"
    right = f", {verdict.right} should" if verdict.right else ""
    said = ", ".join(verdict.said_no) or "nothing"
    name = f"seed {verdict.seed} {verdict.fault}"
    sys.stderr.write(f"{name}: {word}: said no: {said}{right} ({verdict.seconds:.0f} s)\n")
    sys.stderr.flush()
    # as they come: a run that is stopped has told what it knows
    sys.stdout.write(json.dumps(asdict(verdict)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
