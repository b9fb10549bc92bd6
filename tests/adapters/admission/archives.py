"""Archives with adapters as other tools write them, made by hand."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

from tests.adapters.admission.tensors import CONFIG, Array, adapter_tensors, encode

Files = Mapping[str, bytes]


def an_adapter(
    *, tensors: Mapping[str, Array] | None = None, config: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """The two files that every tool writes."""
    return {
        "adapter_config.json": json.dumps(CONFIG if config is None else config).encode(),
        "adapter_model.safetensors": encode(adapter_tensors() if tensors is None else tensors),
    }


def tarred(files: Files, *, mode: str = "w") -> bytes:
    """A tar, or with `w:gz` a packed one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as made:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: Files, *, packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    way = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", way) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def an_archive(**more: Any) -> bytes:
    """One that is imported."""
    return tarred(an_adapter(**more))
