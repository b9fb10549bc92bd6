"""One LoRA fine-tuning run on one base model: the only package beside `training.base` with torch.

port.py               what a job asks of whatever fine-tunes; no torch behind it
fine_tuner.py         the port on PEFT and torch
run.py                the run from the rendered rows to the adapter, resumed where it was
loop.py               the training loop, top to bottom
dry_step.py           a step that changes nothing: whether a plan fits, and how fast it is
passes.py             forward and backward passes as the device plan says
loss.py               the loss of the learnt tokens, the head in chunks
lesson.py             which passes a method takes, and the rows as they read them
preference_passes.py  the same for pairs of answers, and for single ones with thumbs
preference_loss.py    what preferences cost
compared_rows.py      preferences with how likely their answers were before training
batches.py            rendered rows as padded tensors, and the order they come in
trainee.py            the numbers that training changes
run_state.py          how far a run is, and which checkpoint is the best
checkpoint_choice.py  what the best one is chosen by
checkpoints.py        which checkpoints survived a crash whole, and whether there was room for them
clock.py              time taken, learning rate of each step
device_plan.py        how the device is used, by arithmetic; no torch behind it
this_device.py        what there is to train with, measured
spread_passes.py      the passes of a run over several devices
ranks.py              the processes that compute with the run's own one, each on one more device
rank_process.py       such a process; `rank.py` is what it does
rank_link.py          the line between the two; `rank_orders.py` is what is said on it
adapter_exchange.py   weights and gradients between them, by torch.distributed
nf4.py                a base in four bits
loaded_base.py        one base model in memory for a whole job
answers.py            greedy answers of the trainer's own forward pass
"""

import logging
import os

# Threads that wait must sleep, not spin: beside a serving engine on the same cores, spinning made
# a training step five times slower. OpenMP reads this once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# PEFT imports bitsandbytes where it is, in every job, and that warns of a kernel for answering that
# it would fetch from a hub: it is not asked for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
