"""Chat with an adapter, streaming.

Run: OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=... python chat.py [adapter] [text]
"""

from __future__ import annotations

import sys

from openai import OpenAI


def main(model: str = "support", text: str = "How do I download my invoice?") -> None:
    client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY
    stream = client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "Customer support."},
            {"role": "user", "content": text},
        ],
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
