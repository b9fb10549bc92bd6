"""Stand-ins for what is heavy in a job: a fine-tuner without torch, a service without an engine."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from adapters.admission.base_model import BaseModel
from adapters.domain.names import JobId
from adapters.domain.recipes import Recipe
from adapters.errors import Rejected
from adapters.signatures import Signer
from tests.training.job.toy_replica import FINGERPRINT, ToyReplica
from tests.training.world import World
from training.base.chat_format import TemplateError
from training.base.precision import Precision
from training.data.examples import Example, Message
from training.data.questions import Question
from training.data.render import Rendered
from training.evaluate.answers import Answer
from training.finetune.device_plan import DevicePlan, Estimate
from training.finetune.port import ChosenBy, FineTuned, Measures, Task, Watch
from training.job.context import JobContext
from training.stopping import Stopped

STEPS = 10
DEVICE = DevicePlan(
    device="cpu",
    precision=Precision.FLOAT32,
    batch=16,
    micro_batch=8,
    attention="sdpa",
    gradient_checkpointing=False,
    loss_chunk=1000,
    threads=2,
)
MODULE = "model.layers.0.self_attn.q_proj"
RANK = 4


def surely(question: Question, log_prob: float = -0.1) -> list[float]:
    """Each token of the reference, as sure as that."""
    return [log_prob] * (len(question.ids) - question.answer_start)


SIGNER = Signer.made()


@dataclass
class ToyRenderer:
    """Every word is a token."""

    refused: str | None = None
    """What the toy's chat template refuses to render."""
    rendered: int = 0
    at_row: Callable[[int], None] = lambda _count: None
    shown: Callable[[str], None] = lambda _text: None
    """Is given everything that is rendered."""

    def rows(self, example: Example) -> tuple[Rendered, ...]:
        self.rendered += 1
        self.at_row(self.rendered)
        if example.prompt[0].content == self.refused:
            raise TemplateError("the chat template refuses this conversation")
        prompt = self.prompt(example.prompt)
        ids = (*prompt, *self.prompt(example.messages[-1:]))
        return (Rendered(ids=ids, learn=tuple(at >= len(prompt) for at in range(len(ids)))),)

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        for message in messages:
            self.shown(message.said)
        words = (word for message in messages for word in message.content.split())
        return [zlib.crc32(word.encode()) for word in words]


@dataclass
class ToyFineTuner:
    """Writes a small real adapter after ten quick steps.

    Remembers in its folder how far it came, as the real one does with checkpoints.
    """

    value: float = 0.5
    """What the adapter's matrices hold."""
    fine_tuned: list[Task] = field(default_factory=list)
    first_steps: list[int] = field(default_factory=list)
    at_step: Callable[[int], None] = lambda _step: None
    own: Callable[[Question], list[float]] = surely
    loss_of: Callable[[Recipe], float] = lambda _recipe: 0.1
    """The validation loss in the end."""
    answers_of: Callable[[Task], float] = lambda _task: 0.9
    """The share of validation answers, or of what `chosen_by` says instead, right in the end."""
    chosen_by: ChosenBy = ChosenBy.ANSWERS

    def tune(self, task: Task, watch: Watch) -> FineTuned:
        self.fine_tuned.append(task)
        task.workdir.mkdir(parents=True, exist_ok=True)
        watch.planned(DEVICE, Estimate(steps=STEPS, tokens=1234, seconds=1.5))
        done = task.workdir / "steps"
        start = int(done.read_text()) if done.exists() else 0
        self.first_steps.append(start)
        told: list[Measures] = []
        answers = self.answers_of(task)
        accuracy = answers if self.chosen_by is ChosenBy.LOSS else None
        for step in range(1, STEPS + 1):
            evaluated = step % 5 == 0
            if step > start:
                self.at_step(step)
            elif not evaluated:
                continue
            measures = Measures(
                step=step,
                total_steps=STEPS,
                train_loss=2.0 / step,
                train_accuracy=step / STEPS,
                valid_loss=1.0 / step if evaluated else None,
                valid_accuracy=accuracy if evaluated else None,
                seconds_left=float(STEPS - step),
            )
            told.append(measures)
            watch.step(measures)
            if step > start:
                done.write_text(str(step))
                if watch.stopping():
                    raise Stopped
        return FineTuned(
            directory=self._adapter(task.workdir / "adapter"),
            steps=STEPS,
            best_step=STEPS,
            chosen_by=self.chosen_by,
            trained_tokens=1234,
            seconds=1.5,
            first_loss=3.0,
            best_loss=self.loss_of(task.recipe),
            last_loss=self.loss_of(task.recipe),
            best_answers=answers,
            ended="finished",
            device=DEVICE,
            history=tuple(told),
        )

    def log_probs(self, adapter: Path, questions: Sequence[Question]) -> list[list[float]]:
        assert (adapter / "manifest.json").is_file(), "fidelity is measured on what was published"
        return [self.own(question) for question in questions]

    def _adapter(self, directory: Path) -> Path:
        directory.mkdir(exist_ok=True)
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8}
        config |= {"target_modules": ["q_proj"], "base_model_name_or_path": "/somewhere"}
        (directory / "adapter_config.json").write_text(json.dumps(config))
        half = np.full((RANK, 8), self.value, np.float32)
        name = f"base_model.model.{MODULE}"
        tensors = {f"{name}.lora_A.weight": half, f"{name}.lora_B.weight": half.T.copy()}
        save_file(tensors, directory / "adapter_model.safetensors")
        return directory


@dataclass
class ToyService:
    """Answers as a base that knows nothing and versions that have learnt everything.

    Its `sleep` is when a real service would work: it carries out what rollouts are loading.
    """

    replica: ToyReplica
    base: Callable[[Question], str] = lambda _question: "no idea"
    version: Callable[[Question], str] = lambda question: question.reference
    log_prob: Callable[[str], float] = lambda model: -3.0 if model == "tiny" else -0.1
    """Of every token of every reference, by the model's name."""
    endless: bool = False
    """Whether versions never end their answers."""
    forgets: Callable[[str], bool] = lambda _model: False
    """Whether a model is sure of other next tokens than the base, by its name."""
    remembers: Callable[[Question], bool] = lambda _question: True
    """Whether the reference's tokens are the likeliest."""
    servable: bool = True
    rollouts_fail: bool = False
    asked: list[str] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)

    def ask(self, model: str, questions: Sequence[Question]) -> list[Answer]:
        self.asked.append(model)
        if model != "tiny" and not self.servable:
            raise Rejected(f"the service cannot serve {model}: it answers 500")
        say = self.base if model == "tiny" else self.version
        endless = model != "tiny" and self.endless
        return [Answer(text=say(question), cut=endless) for question in questions]

    def log_probs(self, model: str, questions: Sequence[Question]) -> list[list[float]]:
        self.scored.append(model)
        if model != "tiny" and not self.servable:
            raise Rejected(f"the service cannot serve {model}: it answers 500")
        return [surely(question, self.log_prob(model)) for question in questions]

    def top_log_probs(
        self, model: str, questions: Sequence[Question], top: int
    ) -> list[list[Mapping[int, float]]]:
        """The reference's own token and others that are far less likely."""
        others = {-at: -9.0 for at in range(1, top + 1)}
        if self.forgets(model):
            return [
                [{token: -12.0, -1: -0.001} for token in each.ids[each.answer_start :]]
                for each in questions
            ]
        return [
            [
                {**others, token: self.log_prob(model) if self.remembers(each) else -12.0}
                for token in each.ids[each.answer_start :]
            ]
            for each in questions
        ]

    def sleep(self, _seconds: float) -> None:
        self.replica.load(error="its weights are damaged" if self.rollouts_fail else None)
        self.replica.observe()


@dataclass(frozen=True)
class Stage:
    """A claimed job and everything its run needs; `context` may be varied."""

    world: World
    renderer: ToyRenderer
    fine_tuner: ToyFineTuner
    service: ToyService
    context: JobContext
    job_id: JobId
    fence: int

    def with_context(self, **changes: object) -> Stage:
        return replace(self, context=replace(self.context, **changes))  # type: ignore[arg-type]


def stage(world: World, job_id: JobId) -> Stage:
    """Claims the job and lays everything out; the next claim takes it over."""
    world.report_ready()
    job = world.claim(lease_seconds=0.0)
    assert job.id == job_id
    assert job.lease is not None
    renderer, fine_tuner = ToyRenderer(), ToyFineTuner()
    service = ToyService(world.replica)
    context = JobContext(
        registry=world.registry,
        store=world.store,
        units=world.units,
        base=BaseModel(
            path=world.units, name="tiny", fingerprint=FINGERPRINT, shapes={MODULE: (8, 8)}
        ),
        renderer=renderer,
        fine_tuner=fine_tuner,
        answers=service,
        signer=SIGNER,
        workdir=world.state.job(job_id),
        clock=time.monotonic,
        sleep=service.sleep,
        stopping=lambda: False,
    )
    return Stage(world, renderer, fine_tuner, service, context, job_id, job.lease.fence)
