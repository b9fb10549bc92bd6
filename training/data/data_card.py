"""The data card of a dataset: what its `dataset.json` says, in words people read.

No text of an example stands in it but labels and groups, which are the owner's to see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHOWN = 30
"""Labels and groups in a table; the rest is counted."""


def data_card(facts: Mapping[str, Any]) -> str:
    """Markdown; the same facts give the same bytes."""
    balance = facts["stages"]["balance"]
    return "\n".join(
        [
            f"# Data of the adapter `{facts['made_from']['adapter']}`",
            "",
            f"Kind: {facts['kind']}. Built by Wardrobe from the uploads named below.",
            *_section("Made from", ("", ""), sorted(facts["made_from"].items())),
            *_stages(facts),
            *_labels(balance["labels"]),
            *_groups(balance["groups"]),
            *_notes(facts["notes"]),
            "",
        ]
    )


def data_section(facts: Mapping[str, Any]) -> list[str]:
    """Lines of a model card's part about the data, one level below its own.

    A model card goes further than the data's owner: it names no label, no group and no upload.
    """
    lines = [*_stages(facts), *_notes(facts["notes"])]
    return [f"#{line}" if line.startswith("## ") else line for line in lines]


def _stages(facts: Mapping[str, Any]) -> list[str]:
    stages = facts["stages"]
    return [
        *_section("Parts", ("part", "examples"), facts["counts"].items()),
        *_section("What the stages did", ("stage", "found"), _done(stages)),
        *_personal_data(stages["screen"]),
        *_tokens(stages["tokenise"]),
    ]


def _done(stages: Mapping[str, Any]) -> list[tuple[str, Any]]:
    read, split, near = stages["read"], stages["split"], stages["near_duplicates"]
    return [
        ("examples read and kept", read["examples"]),
        ("left out: persons who asked for erasure", read["erased"]),
        ("left out: exact duplicates", split["duplicates"]),
        ("left out: ask what measures the adapter", split["overlap"]),
        ("left out: validation that was taught before", split["taught"]),
        ("left out: more than measuring needs", split["unused"]),
        ("left out: near-duplicates", near["repeated"]),
        ("left out: ask almost what measures the adapter", near["contaminating"]),
        ("left out: too long", stages["tokenise"]["too_long"]),
        ("shortened", stages["tokenise"]["cut"]),
    ]


def _personal_data(screen: Mapping[str, Any]) -> list[str]:
    policy = screen["policy"]
    looked = ", ".join(policy["entities"]) or "nothing"
    said = [
        "",
        "## Personal data and secrets",
        "",
        f"Policy: personal data is `{policy['personal_data']}`, secrets are `{policy['secrets']}`.",
        (
            f"Looked for: {looked}; in {policy['directories']} directories; names by "
            f"{policy['names_model'] or 'no language model: only those in directories'}."
        ),
    ]
    if policy["approval"]:
        approval = policy["approval"]
        said.append(f"Approved by {approval['by']}: {approval['reason']}")
    rows = [
        (f"{label}, {param.replace('_', ' ')}", count)
        for param, part in sorted(screen["parts"].items())
        for label, count in part["entities"].items()
    ]
    again = {
        "left": "A second look, for what no finder knows, found {} left.",
        "approved": "Found and learnt as it is: {}.",
    }
    said += [text.format(screen[name]) for name, text in again.items() if name in screen]
    return [*said, *_table(("found", "times"), rows or [("nothing", 0)])]


def _tokens(tokenised: Mapping[str, Any]) -> list[str]:
    names = ("rows", "tokens", "learnt", "median", "p95", "longest")
    rows = [
        (part, *(lengths[name] for name in names)) for part, lengths in tokenised["lengths"].items()
    ]
    limit = f"No example is cut; the longest allowed has {tokenised['max_length']} tokens."
    return ["", "## Tokens", "", limit, *_table(("part", *names), rows)]


def _labels(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    if not labels:
        return []
    head = ("label", "examples", "weight", "shown", "counts")
    rows = [tuple(each[name] for name in head) for each in labels]
    said = (
        "`weight` would make all labels count the same; `shown` is how often an epoch shows an "
        "example, `counts` how many times as much its loss counts as one of the largest label."
    )
    return ["", "## Labels", "", said, *_table(head, rows)]


def _groups(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    if not groups:
        return []
    rows = [(each["name"], each["value"], each["examples"], _most_common(each)) for each in groups]
    return ["", "## Groups", *_table(("name", "value", "examples", "most common label"), rows)]


def _most_common(group: Mapping[str, Any]) -> str:
    if not group["labels"]:
        return "–"
    label, count = max(group["labels"].items(), key=lambda each: each[1])
    return f"{label} ({count / group['examples']:.0%})"


def _notes(notes: Iterable[Sequence[str]]) -> list[str]:
    listed = [f"- {said}." if level == "info" else f"- **{said}.**" for level, said in notes]
    return ["", "## Notes", "", *listed]


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    return ["", f"## {title}", *_table(head, rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    listed = list(rows)
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in listed[:SHOWN]]
    more = [f"| and {len(listed) - SHOWN} more {'| ' * (len(head) - 1)}|"]
    return [
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *lines,
        *(more if len(listed) > SHOWN else []),
    ]


def _cell(value: Any) -> str:
    text = str(value).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
    return " ".join(text.split())
