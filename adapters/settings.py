"""Settings of all Wardrobe processes: environment variables `WARDROBE_*`, with safe defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.domain.api_keys import MIN_BROUGHT, MIN_PEPPER
from adapters.state_folder import StateFolder

TrainPrecision = Literal["auto", "float32", "bfloat16"]

DEFAULT_BASE = "smollm2"
"""The base where none is named. Where it cannot be had (it comes from a package index), `tiny` is
taken, with a word about it; a state folder stays with what it began with."""

NO_PARSER = "none"
"""Says that a base's tool calls, or its thoughts, are not read."""


def default_cache() -> Path:
    """Where base models are kept between checkouts: `$XDG_CACHE_HOME/wardrobe`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wardrobe"


def cache_folder() -> Path:
    """`$WARDROBE_CACHE`, else the default: for those who need nothing else of the settings."""
    return Path(os.environ.get("WARDROBE_CACHE") or default_cache())


class Settings(BaseSettings):
    """Every knob; `docs/reference.md` lists them (a test compares)."""

    model_config = SettingsConfigDict(env_prefix="WARDROBE_", frozen=True, extra="ignore")

    state: Path = Field(default=Path(".wardrobe/state"), description="The state folder.")
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="The registry's database, `postgresql://…`; empty: SQLite in the state folder.",
    )
    units: Path = Field(default=Path("examples/units"), description="Folder of unit YAML files.")
    cache: Path = Field(default_factory=default_cache, description="Built and fetched base models.")
    artifacts: str = Field(
        default="",
        description="Artifact store: a folder, or s3://, gs:// or az:// with bucket and prefix; "
        "empty is the state folder's.",
    )
    artifact_cache_gib: float = Field(
        default=20.0,
        gt=0.0,
        description="GiB of adapters kept here in front of object storage, as many of datasets.",
    )
    base: str = Field(
        default="",
        description="Base: `tiny`, `smollm2`, a Hugging Face id, `store:<digest>` or a path.",
    )
    thinking: Literal["off", "on"] = Field(
        default="off",
        description="Thoughts of a base that has them, in answers and in training alike.",
    )
    tool_parser: str = Field(
        default="",
        description="vLLM's --tool-call-parser, `none` for no tools; empty is what the base's "
        "profile says.",
    )
    reasoning_parser: str = Field(
        default="",
        description="vLLM's --reasoning-parser, the same way.",
    )
    base_name: str = Field(
        default="", description="The base's name in the API; empty takes the last part of `base`."
    )
    host: str = Field(default="127.0.0.1", description="Address the service listens on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port the service listens on.")
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        le=3600,
        description="How long a connection may be idle between two requests; longer than clients "
        "and load balancers keep theirs.",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="Certificate chain in PEM, with WARDROBE_TLS_KEY; taken up when it changes.",
    )
    tls_key: Path | None = Field(
        default=None, description="The certificate's key in PEM, without a password."
    )
    oidc_issuer: str = Field(
        default="", description="Identity provider whose tokens are taken beside keys: its `iss`."
    )
    oidc_audience: str = Field(
        default="", description="The `aud` that a token must be for; needed with an issuer."
    )
    oidc_jwks_url: str = Field(
        default="", description="Its key set; empty: what its discovery document says."
    )
    oidc_algorithm: Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"] = Field(
        default="RS256", description="The one algorithm that its tokens are signed by."
    )
    oidc_claim: str = Field(default="roles", description="The claim with the holder's roles.")
    oidc_roles: str = Field(
        default="",
        description="JSON: which of our roles others, or groups, in that claim stand for.",
    )
    service_url: str = Field(
        default="",
        description="Where the trainer and the command line reach the service; empty: this host "
        "and port.",
    )
    service_ca: Path | None = Field(
        default=None,
        description="Authority in PEM that signed the service's certificate, for the trainer and "
        "the command line.",
    )
    engine: Literal["cpu", "gpu"] = Field(default="cpu", description="Which build of vLLM runs.")
    engine_args: str = Field(default="", description="More vLLM arguments, as on a command line.")
    gpu_share: float = Field(
        default=0.9,
        gt=0.0,
        le=1.0,
        description="Part of a GPU's memory that the engine takes (vLLM's "
        "--gpu-memory-utilization).",
    )
    dtype: str = Field(
        default="auto", description="vLLM's --dtype; `auto` is what the base's profile says."
    )
    train_precision: TrainPrecision = Field(
        default="auto",
        description="Training computes in this; `auto` measures what is faster on a CPU.",
    )
    train_threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads of a training; 0: all it may use."
    )
    train_jobs: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Jobs that a trainer runs at once; each has its own memory, and its part of "
        "the threads.",
    )
    train_devices: int = Field(
        default=1,
        ge=1,
        le=64,
        description="GPUs that share the rows of one job, where the trainer sees so many; on a CPU "
        "processes.",
    )
    train_gpu_share: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Part of a GPU's memory that a job may have; 1: all that is free.",
    )
    train_metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Where the trainer tells Prometheus of its running jobs; 0: nowhere.",
    )
    train_memory_gib: float = Field(
        default=0.0,
        ge=0.0,
        description="GiB of memory that a process of a job may have, a GPU's aside; 0: no limit.",
    )
    report_to: str = Field(
        default="",
        description="Where else numbers of trainings go: tensorboard, mlflow, wandb, by commas.",
    )
    train_niceness: int = Field(
        default=5,
        ge=0,
        le=19,
        description="Training yields to a service on the same cores; 0: as much as it, 19: always.",
    )
    max_loras: int = Field(default=8, ge=2, description="Adapters in one batch (vLLM).")
    max_cpu_loras: int = Field(
        default=32,
        ge=2,
        le=1024,
        description="Adapters resident at once; a swap needs a spare one.",
    )
    max_lora_rank: Annotated[
        Literal[8, 16, 32, 64, 128, 256, 320, 512],
        BeforeValidator(int),  # the environment says it as text
    ] = Field(default=64, description="Highest rank served.")
    max_model_len: int = Field(default=1024, ge=64, description="Tokens of prompt and answer.")
    max_body_bytes: int = Field(
        default=2 * 1024 * 1024, ge=1024, description="Largest JSON request body."
    )
    api_servers: int = Field(
        default=1, ge=1, le=64, description="API processes in front of the engine."
    )
    on_registry_loss: Literal["keep", "stop"] = Field(
        default="keep",
        description="Without the registry: keep answering, or stop when the serving lease ends.",
    )
    key_trust_seconds: float = Field(
        default=86_400.0,
        ge=5.0,
        description="How long keys are believed without a look at the registry, which may have "
        "ended them meanwhile.",
    )
    serving_lease_seconds: float = Field(
        default=15.0, ge=5.0, description="How long a heartbeat lets a replica answer (`stop`)."
    )
    shared_sequences: int = Field(
        default=0,
        ge=0,
        le=65536,
        description="Answers at once that units share by weight while several ask; 0: a default.",
    )
    calm_sequences: int = Field(
        default=0,
        ge=0,
        le=65536,
        description="The same while one of them keeps to its part; 0: a default.",
    )
    price_prompt: float = Field(
        default=0.0,
        ge=0.0,
        le=1e6,
        description="Price of a million tokens of prompts on this base, for `wardrobe usage`.",
    )
    price_completion: float = Field(
        default=0.0, ge=0.0, le=1e6, description="The same of answers' tokens."
    )
    price_training: float = Field(
        default=0.0, ge=0.0, le=1e6, description="Price of a million trained tokens on this base."
    )
    currency: str = Field(
        default="usd", pattern="^[a-z]{3}$", description="What prices are in; a name, no more."
    )
    kv_cache_gib: int = Field(default=1, ge=1, description="GiB of key-value cache on the CPU.")
    drain_seconds: float = Field(
        default=30.0, ge=0.0, description="How long running answers may take to finish at shutdown."
    )
    engine_silence_seconds: float = Field(
        default=600.0,
        ge=10.0,
        description="An engine that says nothing for so long hangs, and is started again.",
    )
    admin_key: SecretStr | None = Field(
        default=None,
        min_length=MIN_BROUGHT,
        description="Use this admin key instead of making one; it is written nowhere.",
    )
    admin_key_file: Path | None = Field(
        default=None, description="The same from a file, as a mounted Secret is."
    )
    trainer_key: SecretStr | None = Field(
        default=None,
        min_length=MIN_BROUGHT,
        description="Use this trainer key instead of making one; it is written nowhere.",
    )
    trainer_key_file: Path | None = Field(
        default=None, description="The same from a file, as a mounted Secret is."
    )
    metrics_key: SecretStr | None = Field(
        default=None,
        min_length=MIN_BROUGHT,
        description="A key that reads the metrics and nothing else, for whoever scrapes them.",
    )
    metrics_key_file: Path | None = Field(
        default=None, description="The same from a file, as a mounted Secret is."
    )
    brought_key_days: float = Field(
        default=0.0,
        ge=0.0,
        le=3650.0,
        description="Keys that are brought end so many days after they were first seen; 0: never.",
    )
    pepper: SecretStr | None = Field(
        default=None,
        min_length=MIN_PEPPER,
        description="The secret under the key hashes; replicas that share a database need one.",
    )
    pepper_file: Path | None = Field(
        default=None, description="The same from a file, as a mounted Secret is."
    )
    signing_key_file: Path | None = Field(
        default=None,
        description="Sign versions with this Ed25519 key (PEM) instead of making one.",
    )
    trusted_keys: Path | None = Field(
        default=None,
        description="File or folder of public keys (PEM) whose signatures count, beside our own's.",
    )
    signatures: Literal["auto", "require", "warn", "off"] = Field(
        default="auto",
        description="What becomes of a version that nobody trusted has signed; `auto` refuses it "
        "wherever there is a key to check by.",
    )
    unit_keys: Path | None = Field(
        default=None, description="Folder with a file for each unit whose key is brought."
    )
    keep_retired: int = Field(
        default=10, ge=1, description="Retired versions of an adapter kept to roll back to."
    )
    keep_rejected_days: float = Field(
        default=30.0, ge=0.0, description="How long rejected versions' artifacts are kept."
    )
    keep_candidate_days: float = Field(
        default=90.0, ge=1.0, description="The same of candidates that were never promoted."
    )
    keep_history_days: float = Field(
        default=90.0, ge=1.0, description="The same of finished jobs' events and ended rollouts."
    )
    lease_seconds: float = Field(
        default=15.0, ge=1.0, description="A trainer silent for this long loses its job."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info")
    request_log: Literal["all", "refused", "off"] = Field(
        default="all",
        description="Which requests are logged as they end, a line each, without content.",
    )
    traces: bool = Field(
        default=False,
        description="Make an OpenTelemetry span of each request; OTEL_* variables say where to.",
    )

    @property
    def state_folder(self) -> StateFolder:
        return StateFolder(self.state.expanduser().absolute())

    @property
    def registry_url(self) -> str:
        """The registry's address, with its password: for `open_registry` and nobody's eyes."""
        return self.database_url.get_secret_value() or self.state_folder.database_url

    @property
    def shares_registry(self) -> bool:
        """Whether other machines may use the registry: then no secret is made on this one."""
        return bool(self.database_url.get_secret_value())

    @property
    def url(self) -> str:
        """Where the service is reached from this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        scheme = "http" if self.tls_cert is None else "https"
        return self.service_url or f"{scheme}://{host}:{self.port}"

    @property
    def calls_tools(self) -> bool:
        """Whether the engine reads the base's tool calls."""
        return self.tool_parser not in ("", NO_PARSER)

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        return {
            f"WARDROBE_{name.upper()}": value.get_secret_value()
            if isinstance(value, SecretStr)
            else str(value)
            for name, value in self.model_dump(exclude_none=True).items()
        }

    def given_environment(self) -> dict[str, str]:
        """As `environment`, but only what somebody has set: the rest is for the process to find
        out, some of it from its base and device.
        """
        given = {f"WARDROBE_{name.upper()}" for name in self.model_fields_set}
        return {name: value for name, value in self.environment().items() if name in given}
