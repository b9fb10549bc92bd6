"""One LoRA fine-tuning run on one base model: the only package beside `training.base` with torch.

port.py         what a job asks of whatever fine-tunes; no torch behind it
fine_tuner.py   the port on PEFT and torch
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
