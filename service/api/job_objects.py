"""OpenAI's objects of fine-tuning: jobs, events and checkpoints. Fields of ours carry `x_`."""

from __future__ import annotations

from typing import Any

from adapters.domain.jobs import Job, JobCheckpoint, JobEvent
from adapters.domain.recipes import Method
from adapters.domain.versions import Version


def wire_job(job: Job) -> dict[str, Any]:
    """OpenAI's fine-tuning job object."""
    resolved = job.resolved or {}
    plain_rate = 1.0 if job.resolved else "auto"  # the recipe has the rate itself
    knobs = {
        "n_epochs": resolved.get("n_epochs", job.hyperparameters.n_epochs or "auto"),
        "batch_size": resolved.get("batch_size", job.hyperparameters.batch_size or "auto"),
        "learning_rate_multiplier": job.hyperparameters.learning_rate_multiplier or plain_rate,
    }
    method = resolved.get("method") or job.hyperparameters.method or Method.SUPERVISED
    beta = resolved.get("beta") or job.hyperparameters.beta or "auto"
    of_method = knobs if method == Method.SUPERVISED else knobs | {"beta": beta}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": _seconds(job.finished_at),
        "estimated_finish": _seconds(job.estimated_finish),
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": "wardrobe",
        "result_files": list(job.result_files),
        "status": str(job.status),
        "trained_tokens": job.trained_tokens,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "seed": (job.resolved or {}).get("seed", job.seed),
        "hyperparameters": knobs,
        "method": {"type": str(method), str(method): {"hyperparameters": of_method}},
        "metadata": job.metadata,
        "integrations": [],
        "error": None
        if job.error is None
        else {"code": job.error.code, "message": job.error.message, "param": job.error.param},
        "x_unit": job.unit,
        "x_adapter": job.adapter,
        "x_attempts": job.attempts,
        "x_started_at": _seconds(job.started_at),
        "x_recipe": job.resolved,
        "x_wardrobe": {
            "unit": job.unit,
            "recipe": job.recipe.model_dump(mode="json", exclude_none=True) if job.recipe else None,
            "dry_run": job.dry_run,
        },
    }


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)


def wire_event(event: JobEvent) -> dict[str, Any]:
    """OpenAI's job event object."""
    return {
        "id": f"ftevent-{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": event.data,
    }


def wire_checkpoint(point: JobCheckpoint, version: Version | None) -> dict[str, Any]:
    """OpenAI's checkpoint object; `version` is what the job has published.

    Of all checkpoints the best becomes the version and the others go, so that one has a name that
    answers, as long as the version may. The others are measures, and have none.
    """
    return {
        "id": f"ftckpt_{point.id}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(point.created_at),
        "fine_tuned_model_checkpoint": _name(point, version),
        "fine_tuning_job_id": point.job_id,
        "step_number": point.step,
        "metrics": {"step": point.step, **point.metrics},
    }


def _name(point: JobCheckpoint, version: Version | None) -> str | None:
    if version is None or not version.servable:
        return None
    training = (version.evidence or {}).get("training", {})
    return version.name if training.get("best_step") == point.step else None
