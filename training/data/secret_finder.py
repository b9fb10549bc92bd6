"""Finds secrets: private keys, keys and tokens of known forms, passwords that are called so.

A word that could be anything is no secret here: what has no form and no name is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from training.data.spans import Span

_RANK = 1000
"""A secret inside an address is a secret first."""
_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]{0,20000}"
    r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
)
_FORMS = re.compile(
    r"(?<![\w-])(?:"
    r"AKIA[0-9A-Z]{16}"  # Amazon
    r"|ASIA[0-9A-Z]{16}"
    r"|AIza[\w-]{35}"  # Google
    r"|gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{22,255}"
    r"|glpat-[\w-]{20,64}"
    r"|xox[abeprs]-[\w-]{10,255}"  # Slack
    r"|sk-[A-Za-z0-9][\w-]{19,255}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}"  # OpenAI, Stripe
    r"|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}"
    r"|eyJ[\w-]{10,4096}\.eyJ[\w-]{10,8192}\.[\w-]{10,4096}"  # JSON Web Token
    r"|wr-[a-z0-9-]{1,40}-[\w-]{43}"  # our own
    r")(?![\w-])"
)
_CALLED = re.compile(
    r"(?i)(?<!\w)(?:pass(?:word|wd|phrase|wort)|kennwort|pwd|secret|api[ _-]?key|access[ _-]?key"
    r"|(?:access|auth|bearer)[ _-]?token|authorization: ?(?:bearer|basic)|bearer)"
    r"(?: is| ist| lautet)?[\"']?\s{0,3}[:=]?\s{0,3}[\"'`]?(?P<secret>[^\s\"'`,;]{6,512})"
)
_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:@/]{1,64}:(?P<secret>[^\s@/]{1,128})@")
_LIKE_A_SECRET = re.compile(r"(?=.*[A-Za-z])(?=.*\d)|(?=.*[A-Za-z])(?=.*[!#$%&*+?@^~].)")


class SecretFinder:
    """`Finder` of secrets."""

    def find(self, text: str) -> Iterator[Span]:
        """See `Finder.find`."""
        if "PRIVATE KEY" in text:
            yield from (_span(match, 0) for match in _BLOCK.finditer(text))
        yield from (_span(match, 0) for match in _FORMS.finditer(text))
        for match in _CALLED.finditer(text):
            if _LIKE_A_SECRET.match(match["secret"].rstrip(".!?)")):
                yield _span(match, "secret")
        if "://" in text:
            yield from (_span(match, "secret") for match in _IN_URL.finditer(text))


def _span(match: re.Match[str], group: int | str) -> Span:
    start, end = match.span(group)
    return Span(start=start, end=end, entity=None, rank=_RANK)
