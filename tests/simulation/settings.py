"""What a simulated replica is told beside `WARDROBE_*`: environment variables `SIMULATED_*`."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.settings import Settings
from tests.simulation.core import Limits, Pace


class Simulation(BaseSettings):
    """The engine's own speed, and how an API process finds its engine and its port."""

    model_config = SettingsConfigDict(env_prefix="SIMULATED_", frozen=True)

    step_seconds: float = 0.0
    load_seconds: float = 0.0
    stalls: bool = False
    socket: Path = Path()
    """Of the engine's process; empty: the engine is in the API process."""
    listen_fd: int = -1
    """A listening socket that several API processes share; -1: listen on `WARDROBE_PORT`."""

    process: int = 0
    """Which of the engine's API processes this is."""
    processes: int = 1
    """How many those are."""

    def limits(self) -> Limits:
        """The engine's limits, as the service's settings name them."""
        settings = Settings()
        return Limits(
            max_loras=settings.max_loras,
            max_cpu_loras=settings.max_cpu_loras,
            max_lora_rank=settings.max_lora_rank,
        )

    def pace(self) -> Pace:
        """The engine's speed."""
        return Pace(step=self.step_seconds, load=self.load_seconds, stalls=self.stalls)

    def base_name(self) -> str:
        """What the service calls the base model."""
        settings = Settings()
        return settings.base_name or Path(settings.base).name
