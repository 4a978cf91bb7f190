"""Channel rows and endpoints for tests, without a database."""

from tollway.config import Settings
from tollway.core.routing.models import Channel
from tollway.upstream.channels import Endpoint
from tollway.upstream.transport import UpstreamRequest


def channel(
    base_url: str = "http://api.example/v1", dialect: str = "openai_chat", **options: object
) -> Channel:
    """A channel of a dialect; `options` become its options."""
    return Channel(
        id="ch_1",
        name="one",
        dialect=dialect,
        base_url=base_url,
        secret=None,
        secret_hint="",
        groups=("default",),
        priority=0,
        weight=1,
        status="enabled",
        created_at=0,
        options=options,
    )


def endpoint(
    base_url: str = "http://api.example/v1",
    dialect: str = "openai_chat",
    secret: str | None = "s3cret",
    **options,
) -> Endpoint:
    """A channel made ready to send to."""
    return Endpoint(channel(base_url, dialect, **options), secret, Settings(), None)


def headers(request: UpstreamRequest) -> dict[str, list[str]]:
    """The headers as they will be written, by lower-case name, from the finished head where there is one."""
    found: dict[str, list[str]] = {}
    if request.head:
        lines = [line.split(": ", 1) for line in request.head.decode("latin-1").split("\r\n")[1:-2]]
    else:
        lines = [[name.decode(), value.decode("latin-1")] for name, value in request.headers]
    for name, value in lines:
        found.setdefault(name.lower(), []).append(value)
    return found


def target(request: UpstreamRequest) -> str:
    """Path and query as they will be written."""
    return request.head.split(b" ", 2)[1].decode() if request.head else request.target
