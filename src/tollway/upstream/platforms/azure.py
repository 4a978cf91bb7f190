"""Azure OpenAI: deployments instead of models, an API version in the query, the key in a header of its own."""

from __future__ import annotations

import re
from typing import Final

from tollway.core.exchange import DialectName
from tollway.core.routing.models import Channel
from tollway.upstream.platforms import plain
from tollway.upstream.platforms.base import Platform, Sort, Target, Verb, segment, text_option

UNIFIED: Final = ("v1", "preview", "latest")
"""Values of the option api_version that mean the API without dated versions."""

DIALECTS: Final[tuple[DialectName, ...]] = ("openai_chat", "openai_responses")

_VERSION: Final = re.compile(r"20\d\d-\d\d-\d\d(-preview)?")
_DEPLOYED: Final[dict[Verb, str]] = {
    "text": "/chat/completions",
    "embed": "/embeddings",
    "embed_batch": "/embeddings",
    "complete": "/completions",
}


def platform(channel: Channel, dialect: DialectName, secret: str | None) -> Platform:
    """A channel of an Azure resource. Option: api_version, a date such as 2024-10-21, or "v1" (the default).

    With "v1" the upstream's model is the deployment's name in the body; with a date it is in the path.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"channel {channel.name!r}: Azure OpenAI does not speak {dialect}")
    version = text_option(channel, "api_version") or "v1"
    headers = ((b"api-key", secret.encode()),) if secret else ()
    secrets = (secret,) if secret else ()
    if version in UNIFIED:
        return Platform(target=_unified(dialect, version), headers=headers, secrets=secrets)
    if not _VERSION.fullmatch(version):
        raise ValueError(f"channel {channel.name!r}: {version!r} is no api_version such as 2024-10-21 or v1")
    return Platform(
        target=_classic(dialect, version),
        headers=headers,
        model_in_path=dialect == "openai_chat",
        secrets=secrets,
    )


def _unified(dialect: DialectName, version: str) -> Target:
    query = "" if version == "v1" else f"?api-version={version}"
    target_of = plain.platform(dialect, None).target

    def target(sort: Sort) -> str | None:
        path = None if sort.verb == "list" else target_of(sort)
        return None if path is None else f"/openai/v1{path}{query}"

    return target


def _classic(dialect: DialectName, version: str) -> Target:
    query = f"?api-version={version}"

    def target(sort: Sort) -> str | None:
        if dialect == "openai_responses":
            # The only call there that names the model in its body.
            return f"/openai/responses{query}" if sort.verb == "text" else None
        path = _DEPLOYED.get(sort.verb)
        return None if path is None else f"/openai/deployments/{segment(sort.model)}{path}{query}"

    return target
