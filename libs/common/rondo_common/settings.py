"""Settings of every service, read from the environment (RONDO_*). `rondo up` sets all of them;
docker-compose.yml and the Kubernetes manifests set the same names."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICES_WITH_GRPC = ("profiles", "segmentation", "campaigns", "rhythm", "delivery", "insights", "community")


class Settings(BaseSettings):
    """One process's configuration. Every field is the variable RONDO_<NAME IN CAPITALS>."""

    model_config = SettingsConfigDict(env_prefix="RONDO_", extra="ignore")

    service: str = Field("", description="Name of the service this process runs, e.g. profiles or delivery-email")
    slot: str = Field("0", description="Instance slot: transactional.id and group.instance.id are <service>.<slot>")
    kafka: str = Field("127.0.0.1:9092", description="Bootstrap servers")
    redis: str = Field("redis://127.0.0.1:6379/0", description="Redis-protocol server; a view, never the truth")
    host: str = Field("127.0.0.1", description="Address the HTTP and gRPC servers bind to")
    http_port: int = Field(0, description="Port of the HTTP server (health, metrics, API); 0 takes a free one")
    shared_port: int = Field(
        0, description="A second port, which all instances of this service on one machine share; 0: none"
    )
    grpc_port: int = Field(0, description="Port of the gRPC server; 0 takes a free one")
    partitions: int = Field(8, description="Partitions of member-keyed topics; refused when the broker says otherwise")
    replication: int = Field(1, description="Replication factor topics are created with (3 in production)")
    secret: str = Field("dev-secret-change-me", description="Master secret: ids, links and keys are derived from it")
    workspace: str = Field("demo", description="The workspace made at start")
    write_key: str = Field("", description="Write key of that workspace (ingestion, Basic auth user)")
    admin_key: str = Field("", description="Admin key of that workspace (gateway, Bearer)")
    clock_file: str = Field("", description="Shared file of a test clock; empty: the system clock")
    state_file: str = Field("", description=".rondo/state.json of the stack this process belongs to, if any")
    public_url: str = Field("http://127.0.0.1:7000", description="Public base of callbacks: ingestion")
    # provider endpoints: without keys they point at the capture process
    smtp_url: str = Field("smtp://127.0.0.1:2525", description="smtp://[user:password@]host:port")
    email_provider: str = Field("smtp", description="smtp or sendgrid")
    sendgrid_base_url: str = Field("https://api.sendgrid.com", description="SendGrid API base")
    sendgrid_key: str = Field("", description="SendGrid API key")
    sendgrid_public_key: str = Field("", description="SendGrid event webhook public key (base64 DER)")
    twilio_base_url: str = Field("https://api.twilio.com", description="Twilio API base")
    twilio_account: str = Field("ACcapture", description="Twilio account SID")
    twilio_token: str = Field("", description="Twilio auth token: calls and callback signatures")
    twilio_from: str = Field("+15005550006", description="Sender number")
    telegram_base_url: str = Field("https://api.telegram.org", description="Telegram Bot API base")
    telegram_token: str = Field("", description="Bot token")
    telegram_secret: str = Field("", description="secret_token of the Telegram webhook")
    # the capture process (sandbox) only
    capture_smtp_port: int = Field(0, description="Port of capture's SMTP server")
    capture_sendgrid_port: int = Field(0, description="Port of capture's SendGrid-shaped HTTP")
    capture_twilio_port: int = Field(0, description="Port of capture's Twilio-shaped HTTP")
    capture_telegram_port: int = Field(0, description="Port of capture's Telegram-shaped HTTP")
    sendgrid_private_key: str = Field(
        "", description="Key capture signs SendGrid events with (base64 PKCS8 DER, P-256)"
    )
    # addresses of the other services
    grpc_profiles: str = "127.0.0.1:7102"
    grpc_segmentation: str = "127.0.0.1:7103"
    grpc_campaigns: str = "127.0.0.1:7104"
    grpc_rhythm: str = "127.0.0.1:7105"
    grpc_delivery: str = Field("127.0.0.1:7106", description="delivery-email; the other two workers follow")
    grpc_delivery_sms: str = "127.0.0.1:7112"
    grpc_delivery_messaging: str = "127.0.0.1:7113"
    grpc_insights: str = "127.0.0.1:7107"
    grpc_community: str = "127.0.0.1:7108"
    url_ingestion: str = "http://127.0.0.1:7000"
    url_gateway: str = "http://127.0.0.1:7001"
    url_links: str = "http://127.0.0.1:7010"
    url_dashboard: str = "http://127.0.0.1:7009"
    url_capture: str = "http://127.0.0.1:7300"
    url_warehouse: str = Field("http://127.0.0.1:7007", description="ClickHouse HTTP; the embedded engine by default")
    services: str = Field("", description="Every service's HTTP address for health: name=url, by commas")
    data_dir: str = Field(".rondo/data", description="Folder for what a process may keep on disk (warehouse, inbox)")
    log_level: str = "info"
    otlp_endpoint: str = Field("", description="OpenTelemetry collector, OTLP over HTTP (http://host:4318); empty: off")
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Share of traces kept when a collector is set")


def load() -> Settings:
    """This process's settings."""
    return Settings()
