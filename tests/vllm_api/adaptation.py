"""Rewrites vLLM's tests so that they ask a service which runs already, by its names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

BASE = "wardrobe-base"
ADAPTER = "support"
ADAPTERS: Mapping[str, str] = {"zephyr-lora": ADAPTER}
"""What vLLM's tests call an adapter that a server of theirs has, and what it is called here."""

_MODEL = re.compile(r'(?:(?:MODEL_NAME|\bmodel_name)\s*=\s*|RemoteOpenAIServer\(\s*)"([^"]+)"')
_DOWNLOAD = re.compile(r"hf_api\(\)\.snapshot_download\([^()]*\)")
_NO_MODEL = re.compile(r"\n\s*model=None,")
_RESPONSE = re.compile(r"(\.responses\.(?:create|parse)\(\n?\s*)(?!\s*model\b)")


def adapt(code: str) -> str:
    """The same test with our names; what it would download for its server, nobody needs.

    A response is asked of a named model: a server of vLLM's has one, and takes it where none is.
    """
    names = dict.fromkeys(_MODEL.findall(code), BASE) | dict(ADAPTERS)
    for theirs, ours in names.items():
        code = code.replace(f'"{theirs}"', f'"{ours}"')
    code = _NO_MODEL.sub("", code)
    if not re.search(r"\bmodel\s*=", code):
        code = _RESPONSE.sub(rf'\1model="{BASE}", ', code)
    return _DOWNLOAD.sub('"."', code)
