"""Puts the commands together as one tree."""

from __future__ import annotations

import typer

from service.cli import (
    adapters,
    approvals,
    asking,
    audit,
    data,
    engine,
    exchange,
    jobs,
    keys,
    provenance,
    replicas,
    rollouts,
    running,
    signatures,
    units,
    usage,
)

EPILOG = "First time here: `make demo` shows everything, `wardrobe up` runs it."

app = typer.Typer(
    help="Many LoRA adapters on one base model: serve, train, prove and swap without a stop.",
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)

running.add_to(app)
app.add_typer(running.base, name="base")
app.add_typer(units.app, name="units")
app.add_typer(keys.app, name="keys")
app.add_typer(adapters.app, name="adapters")
adapters.add_to(app)
exchange.add_to(app)
approvals.add_to(app)
provenance.add_to(app)
rollouts.add_to(app)
app.add_typer(replicas.app, name="replicas")
app.add_typer(audit.app, name="audit")
app.add_typer(signatures.app, name="signatures")
app.add_typer(engine.app, name="engine")
app.add_typer(data.app, name="data")
app.add_typer(jobs.app, name="jobs")
jobs.add_to(app)
asking.add_to(app)
usage.add_to(app)
