"""What a request asks of an upstream besides its tokens, as far as that decides what the call may cost.

Tools that the upstream itself runs have prices of their own and bring input that the request does not
show; a tier has a price of its own; and a request may refer to input that the upstream keeps.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Struct


class Tool(NamedTuple):
    """A tool the upstream runs. `name`: as the request calls it.

    `meter`: what prices it, None where it is free beyond its tokens, "" where no rate could price it.
    `uses`: how often it may be used, None where the request leaves that open. `reads`: whether what it
    finds becomes input. `field`: where the request asks for it.
    """

    name: str
    meter: str | None
    uses: int | None = None
    reads: bool = True
    field: str = "tools"


class Terms(Struct, frozen=True):
    """`tier`: the one asked for, "" for the usual; `tier_field`: the member that asks for it.

    `keeps`: the member by which the request refers to input of unknown length that the upstream
    keeps, "" if it does not. `loads`: whether it refers to documents, sound or films behind URLs, whose
    length nobody here knows.
    """

    tools: tuple[Tool, ...] = ()
    tier: str = ""
    tier_field: str = "service_tier"
    keeps: str = ""
    loads: bool = False


PLAIN: Final = Terms()
"""A request that asks for tokens alone."""
