"""Prints a foreseen error as one line on standard error: what went wrong and what to do.

Exit codes: 0 done, 1 it did not work, 2 the command line or a setting is wrong, 130 interrupted.
A traceback means that something happened which nobody foresaw.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import typer
from typer.main import get_command

_ADVICE: Mapping[str, str] = {
    "invalid_api_key": "give a key with --key or WARDROBE_KEY",
    "insufficient_permissions": "this needs another key (--key)",
    "version_conflict": "look at it with `wardrobe adapters show` and try again",
    "version_rejected": "`wardrobe adapters show` tells what its gates measured",
    "draining": "the service is stopping; try again when it is back",
}


def run(app: typer.Typer, arguments: list[str] | None = None, *, name: str = "wardrobe") -> int:
    """Runs the command line and returns its exit code. Raises only what nobody foresaw.

    `name` is the program's name in its help; with no arguments at all, a tree of commands shows it.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = get_command(app).main(
            args=words or _help_of(app), prog_name=name, standalone_mode=False
        )
        sys.stdout.flush()
    except typer.Abort:
        return 130
    except BrokenPipeError:
        # whoever read our output has had enough; nothing may be flushed into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        line, code = told
        _complain(line)
    return code if isinstance(code, int) else 0


def _help_of(app: typer.Typer) -> list[str]:
    """A single command runs without arguments; a tree of commands shows its help."""
    return ["--help"] if app.registered_groups else []


def explain(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code of a foreseen error; None for any other."""
    from pydantic import ValidationError

    from adapters.errors import WardrobeError

    if isinstance(error, WardrobeError):
        return error.message, 1
    if isinstance(error, ValidationError) and error.title == "Settings":
        return "; ".join(_about_settings(error)), 2
    if isinstance(error, typer.TyperException):
        # Typer's usage errors carry the context of the command they are about
        where = getattr(getattr(error, "ctx", None), "command_path", "wardrobe")
        message = error.format_message().rstrip(".")
        return f"{message}. See `{where} --help`.", error.exit_code
    if "openai" in sys.modules and (line := _about_the_service(error)):
        return line, 1
    if isinstance(error, UnicodeEncodeError):  # of words that the shell has handed on as bytes
        return "what was typed holds bytes that are no text in UTF-8", 2
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}", 1
    return None


def _complain(line: str) -> None:
    print(f"error: {line}", file=sys.stderr)


def _about_settings(error: object) -> list[str]:
    from pydantic import ValidationError

    assert isinstance(error, ValidationError)  # noqa: S101 - narrows for the type checker
    return [
        f"WARDROBE_{str(mistake['loc'][0]).upper()}: {mistake['msg']}"
        for mistake in error.errors(include_input=False, include_url=False)
    ]


def _about_the_service(error: Exception) -> str | None:
    import openai

    if isinstance(error, openai.APITimeoutError):
        return "the service did not answer in time; `wardrobe status` tells how it is"
    if isinstance(error, openai.APIConnectionError):
        url = error.request.url
        where = f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"
        if (reason := _not_trusted(error)) is not None:
            return (
                f"the certificate of {where} does not count here ({reason}): name the service as "
                "its certificate does (--url), and its authority in WARDROBE_SERVICE_CA"
            )
        return (
            f"nothing answers at {where}; start it with `wardrobe up`, or say where it is with "
            "--url"
        )
    if isinstance(error, openai.APIStatusError):
        code = error.code or str(error.status_code)
        body = error.body if isinstance(error.body, dict) else {}
        message = body.get("message") or f"the service answered {error.status_code}"
        advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
        request = f", request {error.request_id}" if error.request_id else ""
        return f"{message} ({code}{request}){advice}"
    if isinstance(error, openai.OpenAIError):
        return str(error).splitlines()[0]
    return None


def _not_trusted(error: BaseException | None) -> str | None:
    """Why a certificate was not believed, where that is what ended a connection."""
    import ssl

    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
