"""Reads a safetensors header and checks every tensor against it.

    8 bytes   length of the header, little-endian
    header    JSON: name → dtype, shape, [begin, end) in the data; maybe `__metadata__`
    data      the tensors, without gaps

(Format: huggingface/safetensors README.) The length is capped before a byte of the header is read,
and the data must be covered exactly: what no tensor names has no place in the file.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adapters.errors import Rejected

MAX_HEADER_BYTES = 8 << 20
"""An adapter of 200 layers with 7 modules each has a header of 0.5 MB."""
_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_SCANNED_AT_ONCE = 1 << 22
_MAX_DIMENSION = 1 << 40
_MAX_DIMENSIONS = 8


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Where a tensor lies in its file, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Bytes from the start of the file."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES) -> Mapping[str, Tensor]:
    """Every tensor of a file, by name. Raises Rejected for anything but a well-formed file."""
    with os.fdopen(_open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        if len(prefix) < 8:
            raise _malformed(path, "is too short to be a safetensors file")
        (length,) = struct.unpack("<Q", prefix)
        if length > max_header_bytes:
            raise _malformed(path, f"claims a header of more than {max_header_bytes} bytes")
        if 8 + length > size:
            raise _malformed(path, "ends within its header")
        header = file.read(length)
    described = _parsed(path, header)
    tensors = {name: _tensor(path, name, entry) for name, entry in described.items()}
    _check_cover(path, tensors, start=8 + length, size=size)
    return {
        name: Tensor(dtype=tensor.dtype, shape=tensor.shape, begin=8 + length + tensor.begin)
        for name, tensor in tensors.items()
    }


def largest_magnitude(path: Path, tensor: Tensor) -> float:
    """The largest absolute value of an F32, F16 or BF16 tensor; inf or nan where it has one.

    Without its sign bit, an IEEE number's bit pattern, read as an integer, orders as its value
    does, with inf and then nan on top: so one integer maximum answers finite, zero and how large.
    """
    bits, dtype = (32, "<u4") if tensor.dtype == "F32" else (16, "<u2")
    largest, left = 0, tensor.elements
    with path.open("rb") as file:
        file.seek(tensor.begin)
        while left:
            part: npt.NDArray[Any] = np.fromfile(file, dtype, count=min(left, _SCANNED_AT_ONCE))
            if not part.size:
                raise _malformed(path, "became shorter while it was read")
            left -= part.size
            largest = max(largest, int((part & ((1 << (bits - 1)) - 1)).max()))
    return _as_float(largest, tensor.dtype)


def parse_strict_json(content: bytes) -> Any:
    """JSON without duplicate keys, NaN and infinities. Raises ValueError."""
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _open_regular(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _malformed(path, "cannot be opened as a regular file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _malformed(path, "is not a regular file")
    return descriptor


def _parsed(path: Path, header: bytes) -> dict[str, Any]:
    try:
        described = parse_strict_json(header)
    except ValueError as error:
        raise _malformed(path, "has a header that is not proper JSON") from error
    if not isinstance(described, dict):
        raise _malformed(path, "has a header that is not an object")
    notes = described.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise _malformed(path, "has metadata that is not text")
    return described


def _tensor(path: Path, name: str, entry: Any) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end], **rest}:
            numbers = [*shape, begin, end]
            proper = all(type(n) is int and 0 <= n < _MAX_DIMENSION for n in numbers)
            proper = proper and len(shape) <= _MAX_DIMENSIONS
            if rest or not proper or dtype not in _SIZES:
                raise _malformed(path, f"describes the tensor {name[:200]!r} wrongly")
        case _:
            raise _malformed(path, f"describes the tensor {name[:200]!r} wrongly")
    tensor = Tensor(dtype=dtype, shape=tuple(shape), begin=begin)
    if end - begin != _bytes(tensor):
        raise _malformed(path, f"gives the tensor {name[:200]!r} a wrong length")
    return tensor


def _check_cover(path: Path, tensors: Mapping[str, Tensor], *, start: int, size: int) -> None:
    """Tensors follow each other without gap or overlap up to the file's end."""
    reached = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, _bytes(tensor))):
        if tensor.begin != reached:
            raise _malformed(path, "has tensors that overlap or leave gaps")
        reached += _bytes(tensor)
    if start + reached != size:
        raise _malformed(path, "is not as long as its header says")


def _bytes(tensor: Tensor) -> int:
    return tensor.elements * _SIZES[tensor.dtype]


def _as_float(bits: int, dtype: str) -> float:
    if dtype == "F16":
        return float(np.uint16(bits).view(np.float16))
    word = bits << 16 if dtype == "BF16" else bits
    return float(np.uint32(word).view(np.float32))


def _malformed(path: Path, problem: str) -> Rejected:
    return Rejected(f"{path.name} {problem}", code="adapter_weights")
