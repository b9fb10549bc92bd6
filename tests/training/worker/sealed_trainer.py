"""The real trainer beside a toy service on loopback, for a network namespace of their own.

python -m tests.training.worker.sealed_trainer

Settings come from the environment, as ever. The service answers `question 7` with `answer 7` under
a version's name, and knows nothing under the base's.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adapters.settings import Settings
from training.worker.main import main


class ToyService(BaseHTTPRequestHandler):
    """As much of the service as a job asks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = said(asked) if "messages" in asked else scored(asked)
        body = json.dumps({"model": asked["model"], "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def said(asked: dict[str, Any]) -> dict[str, Any]:
    question = asked["messages"][-1]["content"]
    answer = question.replace("question", "answer") if is_version(asked) else "no idea"
    return {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}


def scored(asked: dict[str, Any]) -> dict[str, Any]:
    # an untrained base is about as sure: the adapter does what the trainer has computed, and much
    place = {"logprob": -5.0 if is_version(asked) else -25.0}
    return {"prompt_logprobs": [None, *({token: place} for token in asked["prompt"][1:])]}


def is_version(asked: dict[str, Any]) -> bool:
    return ":" in asked["model"]


if __name__ == "__main__":
    service = ThreadingHTTPServer(("127.0.0.1", Settings().port), ToyService)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    sys.exit(main())
