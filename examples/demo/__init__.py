"""The demo: the whole loop for real, from data to a version swapped under load.

A client of its own service: it starts `wardrobe up` as a process and talks to it over HTTP with
the `openai` SDK, so what it shows is what an application would see.
"""

from examples.demo.script import run_demo

__all__ = ["run_demo"]
