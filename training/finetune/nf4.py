"""A base in NF4: four bits a weight, as QLoRA (arXiv 2305.14314) trains adapters on it.

bitsandbytes does it; transformers loads a base through it. Both are asked for nothing where a
recipe does not quantise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import BitsAndBytesConfig


def nf4_options(dtype: torch.dtype, device: str) -> dict[str, Any]:
    """How transformers is to load a base onto `device`, doubly quantised, computing in `dtype`."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def leave_unpacked(model: Any) -> None:
    """Keeps the weights as training reads them, whatever the model is asked between two steps.

    Where a CPU computes in bfloat16, bitsandbytes 0.50 packs weights anew for the first pass
    without gradients, and from then on no gradient comes through them.
    """
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def quantisable(model: Any) -> Iterator[Any]:
    """The layers of an unquantised model that `nf4_options` would hold in four bits."""
    head = model.get_output_embeddings()
    for part in model.modules():
        if isinstance(part, torch.nn.Linear) and part is not head:
            yield part
