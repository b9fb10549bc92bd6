"""Reads the base model: where it lies, what it is called, and what an adapter must fit.

The fingerprint says which base a version belongs to; it covers everything that decides an answer:
configuration, tokenizer, chat template and weights. Read here without torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

from adapters.admission.safetensors_file import Tensor, read_header
from adapters.domain.names import Digest
from adapters.durable_files import write_private
from adapters.errors import InvalidRequest, Rejected
from adapters.hashing import is_digest, sha256_bytes, sha256_file
from adapters.settings import cache_folder

BaseShapes = Mapping[str, tuple[int, int]]
"""Module name → (out, in) of every linear layer that an adapter may change."""

_WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_DECIDES_ANSWERS = re.compile(
    r"config\.json|generation_config\.json|chat_template\.(jinja|json)|tokenizer.*|vocab.*"
    r"|merges\.txt|special_tokens_map\.json|added_tokens\.json|.*\.safetensors(\.index\.json)?"
    r"|spiece\.model|sentencepiece.*\.model|tekken\.json"
)
_LAYER = re.compile(r"(?:.*\.)?\d+\..*")
_MAX_BASE_HEADER_BYTES = 100_000_000
"""What the safetensors library allows; a base is ops' choice, not a caller's."""
_REMEMBERED_FROM_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """The one shared model an engine loads."""

    path: Path
    name: str
    """What applications put in `model` to be answered without an adapter."""
    fingerprint: Digest
    shapes: BaseShapes


def load_base_model(path: Path, *, name: str, cache: Path | None = None) -> BaseModel:
    """Reads what is to be known of a base model's folder. Raises InvalidRequest."""
    return BaseModel(
        path=path, name=name, fingerprint=fingerprint(path, cache=cache), shapes=base_shapes(path)
    )


def fingerprint(base: Path, *, cache: Path | None = None) -> Digest:
    """SHA-256 over the names and SHA-256s of all files that decide an answer.

    Those of large files are remembered in `cache` (`$WARDROBE_CACHE` where not given) by path,
    size, inode and times of change, as far as that can be written. Raises InvalidRequest where
    there is no model.
    """
    cache = cache or cache_folder()
    files = sorted(file for file in _listed(base) if _DECIDES_ANSWERS.fullmatch(file.name))
    names = {file.name for file in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise InvalidRequest(f"{base} is no model folder: config.json and safetensors are needed")
    digests = [[file.name, _digest_of(file, cache / "fingerprints")] for file in files]
    return sha256_bytes(json.dumps(digests).encode("ascii"))


def base_shapes(base: Path) -> BaseShapes:
    """The shapes of every weight matrix inside a numbered layer, by module name.

    Embeddings and the head stand outside the layers: the service serves no adapter on them.
    Raises InvalidRequest.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for name, tensor in _tensors(base):
        module = name.removesuffix(".weight")
        if module != name and len(tensor.shape) == 2 and _LAYER.fullmatch(module):
            shapes[module] = (tensor.shape[0], tensor.shape[1])
    return shapes


def parameter_count(base: Path) -> int:
    """Numbers in all weights, by their headers. Raises InvalidRequest."""
    return sum(prod(tensor.shape) for _, tensor in _tensors(base))


def _tensors(base: Path) -> Iterator[tuple[str, Tensor]]:
    for file in _weight_files(base):
        try:
            yield from read_header(file.resolve(), max_header_bytes=_MAX_BASE_HEADER_BYTES).items()
        except Rejected as error:
            raise InvalidRequest(f"the base model is damaged: {error.message}") from error


def _weight_files(base: Path) -> list[Path]:
    index = base / _WEIGHTS_INDEX
    if not index.is_file():
        if not (base / _WEIGHTS).is_file():
            raise InvalidRequest(f"{base} has no {_WEIGHTS}")
        return [base / _WEIGHTS]
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"{base} has an unreadable {_WEIGHTS_INDEX}") from error
    missing = [name for name in names if Path(name).name != name or not (base / name).is_file()]
    if missing:
        raise InvalidRequest(f"{base} lacks {', '.join(missing)}")
    return [base / name for name in names]


def _listed(base: Path) -> list[Path]:
    try:
        return [file for file in base.iterdir() if file.is_file()]
    except OSError as error:
        raise InvalidRequest(f"{base} is no model folder: {error.strerror}") from error


def _digest_of(file: Path, remembered: Path) -> Digest:
    seen = file.stat()
    if seen.st_size < _REMEMBERED_FROM_BYTES:
        return sha256_file(file)
    # The time of the inode's change too: that of the content can be set back.
    touched = (seen.st_size, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns)
    who = "\0".join([str(file.resolve()), *map(str, touched)])
    note = remembered / sha256_bytes(who.encode("utf-8", "surrogateescape"))
    known = _recalled(note)
    if known is not None:
        return known
    digest = sha256_file(file)
    with suppress(OSError):
        remembered.mkdir(parents=True, exist_ok=True)
        write_private(note, digest.encode("ascii"))
    return digest


def _recalled(note: Path) -> Digest | None:
    try:
        text = note.read_text("ascii")
    except (OSError, ValueError):
        return None
    return Digest(text) if is_digest(text) else None
