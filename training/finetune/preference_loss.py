"""What preferences cost, by log-ratios: how much likelier an answer is than before training.

Sources: DPO is equation 7 of arXiv 2305.18290, KTO equation 8 of arXiv 2402.01306.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def dpo(chosen: torch.Tensor, rejected: torch.Tensor, *, beta: float) -> torch.Tensor:
    """(pairs,): the chosen answer should have gained more than the rejected one."""
    return -logsigmoid(beta * (chosen - rejected))


def kto(
    ratios: torch.Tensor, liked: torch.Tensor, drift: torch.Tensor, *, beta: float
) -> torch.Tensor:
    """(answers,): liked ones should have gained more than `drift`, others less."""
    gained = torch.where(liked, ratios - drift, drift - ratios)
    return 1.0 - torch.sigmoid(beta * gained)
