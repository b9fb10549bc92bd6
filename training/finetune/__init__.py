"""One LoRA fine-tuning run on one base model: the only package beside `training.base` with torch.

run.py          the run from the rendered examples to the published adapter, top to bottom
values.py       what goes in and what comes out
trainer.py      TRL's trainer with our mask, our held-out measure and sealed checkpoints
clock.py        time taken, progress reports, learning-rate schedule
batches.py      rendered examples as padded tensors, and the order they come in
checkpoints.py  which checkpoints survived a crash whole, and whether there was room for them
answers.py      greedy answers of the trainer's own forward pass
"""

import os

# Threads that wait must sleep, not spin: beside a serving engine on the same cores, spinning made
# a training step five times slower. OpenMP reads this once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from training.finetune.answers import forward
from training.finetune.run import finetune
from training.finetune.values import Finetuned, Progress, Run

__all__ = ["Finetuned", "Progress", "Run", "finetune", "forward"]
