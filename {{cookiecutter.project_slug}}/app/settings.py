"""The only reader of the environment, of `.env` and of secret files.

`.env.example` is the manual: every setting with its reason. Secrets are files, one value in each: `/run/secrets` inside a
container, `secrets/` without Docker (`make init` creates them). They stay out of `.env` and of the environment, and so out of
images, `docker inspect` and logs.
"""

import os
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from sqlalchemy import URL


class SettingsError(Exception):
    """A setting is wrong or missing; the message is one line that says what to do."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is not a time zone; write one like Europe/Moscow") from error
    return name


class Settings(BaseSettings):
    """Every setting of every service. Names in the environment are these in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)

    app_env: Literal["development", "production"] = "development"
    app_name: str = "Community Desk"
    app_language: Literal["ru", "en"] = "ru"
    app_time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    response_target_minutes: int = Field(15, gt=0)
    resolution_target_hours: int = Field(24, gt=0)

    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Path("data")
    listen: str = Field("127.0.0.1:8000", pattern=r"^[^:\s]+:\d{1,5}$")
    reports_url: str | None = None
    trusted_proxies: int = Field(0, ge=0, le=9)
    vk_id_client_id: str | None = None
    vk_id_url: str = Field("https://id.vk.com", pattern=r"^https?://.*[^/]$")

    database_url: str | None = None
    db_host: str | None = None
    db_port: int = 5432
    db_name: str = "desk"
    db_user: str = "owner"
    db_password: SecretStr | None = None

    vk_group_id: int = Field(1, gt=0)
    vk_api_url: str | None = None
    operators_peer_id: int | None = None
    vk_transport: Literal["longpoll", "callback"] = "longpoll"
    vk_callback_confirmation: str | None = None

    reports_keep_days: int = Field(7, gt=0)
    reports_keep_megabytes: int = Field(500, gt=0)

    quiet_hours: str | None = Field(None, pattern=r"^([01]?\d|2[0-3])-([01]?\d|2[0-3])$")
    alert_open: int = Field(50, ge=0)
    alert_wait: int = Field(60, ge=0)
    alert_failed: int = Field(10, ge=0)
    alert_silence: int = Field(5, ge=0)
    alert_queue: int = Field(5, ge=0)
    alert_disk: int = Field(10, ge=0, le=100)
    alert_backup: int = Field(30, ge=0)
    backup_dir: Path | None = None

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    secret_key: SecretStr | None = None
    reports_token: SecretStr | None = None
    metrics_token: SecretStr | None = None
    operator_password: SecretStr | None = None
    vk_token: SecretStr | None = None
    vk_callback_secret: SecretStr | None = None
    db_password_web: SecretStr | None = None
    db_password_bot: SecretStr | None = None
    db_password_reports: SecretStr | None = None

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which people read times."""
        return ZoneInfo(self.app_time_zone)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which this service listens."""
        host, port = self.listen.rsplit(":", 1)
        return host, int(port)

    @property
    def database(self) -> "URL":
        """Where the database is: `DATABASE_URL`, else the `DB_…` settings, else SQLite in the data folder.

        Raises `SettingsError` when the address cannot be read or its password is missing.
        """
        # imported here: the process that only looks after a server's workers is smaller by 11 MB without it
        from sqlalchemy import URL, make_url  # noqa: PLC0415
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        if self.database_url:
            try:
                url = make_url(self.database_url)
            except ArgumentError:
                url = None
            if url is None or url.get_backend_name() not in ("postgresql", "sqlite"):
                raise SettingsError(
                    "DATABASE_URL is not an address; write postgresql://USER:PASSWORD@HOST:PORT/NAME or sqlite:///FILE"
                )
            return url
        if self.db_host:
            password = self.secret("db_password")
            return URL.create("postgresql+psycopg", self.db_user, password, self.db_host, self.db_port, self.db_name)
        return URL.create("sqlite", database=str(self.data_dir / "desk.db"))

    def quiet(self, at: datetime) -> bool:
        """Whether the moment `at` lies within the quiet hours."""
        if self.quiet_hours is None:
            return False
        begin, end = map(int, self.quiet_hours.split("-"))
        hour = at.astimezone(self.zone).hour
        return begin <= hour < end if begin <= end else hour >= begin or hour < end

    def secret(self, name: str) -> str:
        """The value of one secret; raises `SettingsError` when its file is missing or empty."""
        value: SecretStr | None = getattr(self, name)
        if value is None or not value.get_secret_value():
            raise SettingsError(f"secret {name} is missing or empty in {_secret_folder()}: run `make init`")
        return value.get_secret_value()


def _secret_folder() -> Path:
    return Path(os.environ.get("SECRETS_DIR", "/run/secrets" if Path("/run/secrets").is_dir() else "secrets"))


@cache
def load() -> Settings:
    """The settings, read once per process. Raises `SettingsError` with one line for the first wrong value."""
    folder = _secret_folder()
    try:
        return Settings(_secrets_dir=folder if folder.is_dir() else None)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise SettingsError(f"{name} {first['msg'].removeprefix('Value error, ')}; see .env.example") from None
    except PermissionError as error:
        raise SettingsError(f"{error.filename} cannot be read by uid {os.getuid()}: run `make doctor`") from None
