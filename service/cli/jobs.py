"""`wardrobe jobs` and `logs`: fine-tuning jobs, through the `openai` SDK."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.options import AsJson, Method, OfMethod, Why, a_client, finite, needs
from service.cli.output import ago, clock, print_json, print_table

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

    from service.cli.client import Client

app = typer.Typer(help="Fine-tuning jobs.")

_REPORT = "data_report"
"""The event of a dry run that tells what was found."""

JobId = Annotated[str, typer.Argument(help="The job's id, ftjob-….")]


def add_to(app: typer.Typer) -> None:
    """Hangs `logs` into the tree."""
    app.command()(logs)


@app.command("list")
@needs(a_client)
def list_jobs(
    client: Client,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first.

    Example: wardrobe jobs list --limit 5
    """
    found = client.openai.fine_tuning.jobs.list(limit=limit).data
    if as_json:
        print_json([job.model_dump(mode="json") for job in found])
        return
    print_table(
        ("job", "unit", "status", "model", "made", "error"),
        [
            (
                job.id,
                _extra(job, "x_unit"),
                job.status,
                job.fine_tuned_model,
                ago(job.created_at),
                job.error.code if job.error else None,
            )
            for job in found
        ],
        empty="no jobs yet: start one with `wardrobe jobs create`",
    )


@app.command()
@needs(a_client)
def show(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job.

    Example: wardrobe jobs show ftjob-1a2b
    """
    _print_job(client.openai.fine_tuning.jobs.retrieve(job_id or "-"), as_json)


Train = Annotated[Path, typer.Option(help="Training data: OpenAI's JSONL, or CSV.")]
Valid = Annotated[Path | None, typer.Option(help="What tests and chooses, never trains.")]
OfUnit = Annotated[str, typer.Option(help="Whose job it is (with an admin key).")]
OfAdapter = Annotated[str, typer.Option(help="Which of the unit's aliases; else its first.")]
Model = Annotated[str, typer.Option(help="A version to train further; else the base model.")]


@app.command()
@needs(a_client)
def create(
    client: Client,
    train: Train,
    valid: Valid = None,
    unit: OfUnit = "",
    adapter: OfAdapter = "",
    model: Model = "",
    method: OfMethod = None,
    as_json: AsJson = False,
) -> None:
    """Upload data and start a fine-tuning job with the unit's recipe.

    Example: wardrobe jobs create --unit support --train train.jsonl --valid valid.jsonl
    """
    files = {"training_file": train, **({"validation_file": valid} if valid else {})}
    job = _start(client, files, unit, {"suffix": adapter, "model": model, **_by(method)})
    _print_started(job, as_json)


@app.command()
@needs(a_client)
def check(
    client: Client,
    train: Train,
    valid: Valid = None,
    unit: OfUnit = "",
    adapter: OfAdapter = "",
    model: Model = "",
    method: OfMethod = None,
    as_json: AsJson = False,
) -> None:
    """Check data as a job would, without training: problems, tokens, time and cost to expect.

    The trainer does it; exit code 1 where the data could not be trained on. The uploads go by
    themselves after an hour.

    Example: wardrobe jobs check --unit support --train train.jsonl
    """
    files = {"training_file": train, **({"validation_file": valid} if valid else {})}
    job = _start(
        client, files, unit, {"suffix": adapter, "model": model, **_by(method)}, dry_run=True
    )
    events = list(client.follow(job.id))
    report: Any = next((event.data for event in events if event.type == _REPORT), None)
    if as_json:
        print_json(
            report or client.openai.fine_tuning.jobs.retrieve(job.id).model_dump(mode="json")
        )
    else:
        _print_report(report, [event for event in events if event.type != _REPORT])
    if report is None or not report["usable"]:
        raise typer.Exit(1)


def _print_report(report: Any, events: list[FineTuningJobEvent]) -> None:
    if report is None or report["usable"]:
        for event in events:
            typer.echo(_line(event))
        return
    for problem in report["problems"]:
        line = "" if problem["line"] is None else f"line {problem['line']}: "
        typer.echo(f"{problem['param']}: {line}{problem['what']}")
    more = report["problem_count"] - len(report["problems"])
    if more:
        typer.echo(f"and {more} more")


def _by(method: Method | None) -> dict[str, Any]:
    return {"method": {"type": str(method)}} if method else {}


def _start(
    client: Client,
    files: dict[str, Path],
    unit: str,
    optional: dict[str, Any],
    *,
    dry_run: bool = False,
) -> FineTuningJob:
    asked: dict[str, Any] = {
        "model": optional.get("model") or client.base_model(),
        **{name: _upload(client, path, unit, passing=dry_run) for name, path in files.items()},
        **{name: value for name, value in optional.items() if value},
    }
    settings = {**({"unit": unit} if unit else {}), **({"dry_run": True} if dry_run else {})}
    extra = {"x_wardrobe": settings} if settings else None
    return client.openai.fine_tuning.jobs.create(**asked, extra_body=extra)


@app.command()
@needs(a_client)
def cancel(client: Client, job_id: JobId, reason: Why = None, as_json: AsJson = False) -> None:
    """End a job; a running one stops at the trainer's next heartbeat.

    Example: wardrobe jobs cancel ftjob-1a2b
    """
    _print_job(
        client.openai.fine_tuning.jobs.cancel(job_id or "-", extra_body=_because(reason)), as_json
    )


@app.command()
@needs(a_client)
def pause(client: Client, job_id: JobId, reason: Why = None, as_json: AsJson = False) -> None:
    """Pause a job behind its newest checkpoint.

    Example: wardrobe jobs pause ftjob-1a2b
    """
    _print_job(
        client.openai.fine_tuning.jobs.pause(job_id or "-", extra_body=_because(reason)), as_json
    )


@app.command()
@needs(a_client)
def resume(client: Client, job_id: JobId, reason: Why = None, as_json: AsJson = False) -> None:
    """Put a paused job back into the queue.

    Example: wardrobe jobs resume ftjob-1a2b
    """
    _print_job(
        client.openai.fine_tuning.jobs.resume(job_id or "-", extra_body=_because(reason)), as_json
    )


@app.command()
@needs(a_client)
def retry(
    client: Client,
    job_id: JobId,
    augment: Annotated[
        bool, typer.Option("--augment", help="Teach who is named under other groups' names too.")
    ] = False,
    replay: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.5, callback=finite, help="Share of the base's own answers."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a job like one that has ended, with what is changed here.

    Examples: wardrobe jobs retry ftjob-1a2b --augment, wardrobe jobs retry ftjob-1a2b --replay 0.2
    """
    recipe: dict[str, Any] = {"augment": True} if augment else {}
    recipe |= {} if replay is None else {"replay": replay}
    _print_started(client.retry(job_id, recipe), as_json)


@needs(a_client)
def logs(
    client: Client,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what happened in a job; exit code 1 if it is followed and does not succeed.

    Examples: wardrobe logs ftjob-1a2b --follow, wardrobe logs ftjob-1a2b --json (one event a line)
    """
    for event in client.follow(job_id or "-") if follow else client.events(job_id or "-"):
        typer.echo(event.model_dump_json() if as_json else _line(event))
    if follow and client.openai.fine_tuning.jobs.retrieve(job_id).status != "succeeded":
        raise typer.Exit(1)


def _line(event: FineTuningJobEvent) -> str:
    level = "" if event.level == "info" else f"{event.level}: "
    return f"{clock(event.created_at)}  {level}{event.message}"


def _upload(client: Client, path: Path, unit: str, *, passing: bool) -> str:
    """`passing`: it goes by itself."""
    hour: Any = {"expires_after": {"anchor": "created_at", "seconds": 3600}} if passing else {}
    extra = {"x_unit": unit} if unit else None
    with path.open("rb") as file:
        return client.openai.files.create(
            file=file, purpose="fine-tune", extra_body=extra, **hour
        ).id


def _because(reason: str | None) -> dict[str, str] | None:
    return None if reason is None else {"reason": reason}


def _print_started(job: FineTuningJob, as_json: bool) -> None:
    if as_json:
        print_json(job.model_dump(mode="json"))
    else:
        typer.echo(f"{job.id}  {job.status}; watch it with `wardrobe logs {job.id} --follow`")


def _print_job(job: FineTuningJob, as_json: bool) -> None:
    if as_json:
        print_json(job.model_dump(mode="json"))
        return
    error = f"{job.error.code}: {job.error.message}" if job.error and job.error.code else None
    print_table(
        ("", ""),
        [
            ("job", job.id),
            ("unit", _extra(job, "x_unit")),
            ("adapter", _extra(job, "x_adapter")),
            ("status", job.status),
            ("base model", job.model),
            ("new version", job.fine_tuned_model),
            ("trained tokens", job.trained_tokens),
            ("made", ago(job.created_at)),
            ("finished", ago(job.finished_at)),
            ("error", error),
        ],
        empty="",
    )


def _extra(job: FineTuningJob, name: str) -> Any:
    """A field of ours, which the SDK keeps beside its own."""
    return (job.model_extra or {}).get(name)
