"""Settings of the delivery workers only (RONDO_DELIVERY_*); the shared ones are in rondo_common."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DeliverySettings(BaseSettings):
    """Each field is the variable RONDO_DELIVERY_<NAME IN CAPITALS>, but for the window of reconciling,
    RONDO_RECONCILE_WINDOW_S. Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="RONDO_DELIVERY_", extra="ignore", populate_by_name=True)

    concurrency: int = Field(
        default=16, ge=1, description="Provider calls at a time; slow ones stop counting after slow_after"
    )
    most: int = Field(64, ge=1, description="Provider calls at a time, slow ones included")
    slow_after: float = Field(
        default=2.0, gt=0, description="A call open for longer no longer takes a place from others"
    )
    rate: float = Field(0.0, ge=0, description="Most calls a second; 0 sets no limit")
    connect_timeout: float = Field(
        default=5.0, gt=0, description="Wait for a connection; nothing was sent when it ends"
    )
    timeout: float = Field(
        default=15.0, gt=0, description="Wait for a provider's answer; the outcome is unknown when it ends"
    )
    max_age: float = Field(
        default=3.0, gt=0, description="A call starts only this long after its write-ahead (STREAMS 28)"
    )
    retries: str = Field(
        default="2,10,30,120", description="Waits after a provider's `later`, by commas; then rejected"
    )
    reconcile: str = Field(
        default="2,10,60", description="When to ask the provider after a call of unknown outcome, by commas"
    )
    reconcile_window: float = Field(
        300.0,
        gt=0,
        validation_alias="RONDO_RECONCILE_WINDOW_S",
        description="Seconds of doubt after which the policy of the class decides",
    )
    breaker_after: int = Field(10, ge=1, description="Failures in a row that open the breaker")
    breaker_pause: float = Field(
        default=1.0, gt=0, description="First pause of an open breaker; doubles up to breaker_longest"
    )
    breaker_longest: float = Field(60.0, gt=0, description="Longest pause of an open breaker")
    mail_from: str = Field("Rondo <no-reply@example.com>", description="Sender of a template that names none")
    mail_host: str = Field(
        default="rondo.example.com", description="Right side of Message-ID, and the name given in EHLO"
    )
    keep_days: int = Field(
        default=7, ge=1, description="Days a final send is kept: the longest callback window (STREAMS 29)"
    )

    def retry_waits(self) -> tuple[int, ...]:
        """`retries` in ms."""
        return _ms(self.retries)

    def reconcile_steps(self) -> tuple[int, ...]:
        """Instants after an outcome became unknown (ms): when to ask, and last the window's end."""
        window = round(self.reconcile_window * 1000)
        return (*(s for s in _ms(self.reconcile) if s < window), window)


def _ms(text: str) -> tuple[int, ...]:
    return tuple(round(float(part) * 1000) for part in text.split(",") if part.strip())
