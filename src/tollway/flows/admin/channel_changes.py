"""Changing a channel that exists: a new credential, its place in the order, timeouts, quirks and headers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tollway.core.routing.models import Channel
from tollway.flows.admin import channels, connecting
from tollway.flows.admin.context import Admin, Change
from tollway.flows.admin.refusals import invalid
from tollway.store import channels as rows
from tollway.upstream.channels import SANDBOX_URL, SCOPE, scope_text
from tollway.upstream.secrets import SealBroken, Secret


class RotateChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new credential. `same_account`: opaque state that models made under the old one stays usable."""

    channel: str
    secret: str
    same_account: bool = False

    def __repr__(self) -> str:
        return f"RotateChannel(channel={self.channel!r})"


class SetChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall change; what is left out stays.

    Of timeouts, quirks and headers only those named change; None takes one away.
    """

    channel: str
    priority: int | None = None
    weight: int | None = None
    groups: tuple[str, ...] | None = None
    options: dict[str, float | None] = {}
    quirks: dict[str, Any] = {}
    headers: dict[str, str | None] = {}


async def rotate(admin: Admin, request: RotateChannel) -> channels.ChannelView:
    """Replace a channel's credential. Calls under way finish with the old one."""
    secret = connecting.credential(request.secret)

    def work(change: Change) -> channels.ChannelView:
        channel = channels.find(change.conn, request.channel)
        if channel.base_url == SANDBOX_URL:
            invalid("The sandbox takes no credential", "It runs inside the gateway.")
        options = {name: value for name, value in channel.options.items() if name != SCOPE}
        if request.same_account:
            options[SCOPE] = _scope(admin, channel)
        changed = replace(
            channel,
            secret=admin.vault.seal(secret, "channel", channel.id, "secret"),
            secret_hint=connecting.hint_of(secret),
            options=options,
        )
        channels.usable(changed, secret, ())
        rows.change(change.conn, changed)
        change.note(
            "channel.rotate",
            channel.id,
            {"secret": channel.secret_hint},
            {"secret": changed.secret_hint, "same_account": request.same_account},
        )
        return channels.view_of(change.conn, changed)

    return await admin.change(work)


async def put(admin: Admin, request: SetChannel) -> channels.ChannelView:
    """Change what a channel is sent with and when it is tried."""

    def work(change: Change) -> channels.ChannelView:
        channel = channels.find(change.conn, request.channel)
        changed = _changed(channel, request)
        channels.usable(changed, opened(admin, channel), ())
        before = channels.view_of(change.conn, channel)
        rows.change(change.conn, changed)
        after = channels.view_of(change.conn, changed)
        change.note("channel.set", channel.id, channels.audited(before), channels.audited(after))
        return after

    return await admin.change(work)


def _changed(channel: Channel, request: SetChannel) -> Channel:
    priority = channel.priority if request.priority is None else request.priority
    weight = channel.weight if request.weight is None else request.weight
    groups = channel.groups if request.groups is None else request.groups
    connecting.check_order(priority, weight, groups)
    connecting.checked_options(_given(request.options))
    options = _merged(channel.options, request.options)
    headers = {name.lower(): value for name, value in request.headers.items()}
    for name, given, checked in (
        ("quirks", request.quirks, connecting.checked_quirks),
        ("headers", headers, connecting.checked_headers),
    ):
        if not given:
            continue
        known = channel.options.get(name)
        made: dict[str, Any] = _merged(known if isinstance(known, dict) else {}, given)
        options[name] = checked(made)
    return replace(channel, priority=priority, weight=weight, groups=groups, options=options)


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _merged(known: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in known.items() if name not in changes}
    return {**kept, **_given(changes)}


def opened(admin: Admin, channel: Channel) -> Secret | None:
    """A channel's credential, None where it has none. Raises Refused where it cannot be read."""
    if channel.secret is None:
        return None
    try:
        return admin.vault.open(channel.secret, "channel", channel.id, "secret")
    except SealBroken as error:
        invalid(
            f"The credential of {channel.name!r} cannot be read",
            f"{error}.",
            f"Give it a new one: tollway channel rotate {channel.name!r} --secret-stdin",
        )


def _scope(admin: Admin, channel: Channel) -> str:
    known = channel.options.get(SCOPE)
    if isinstance(known, str):
        return known
    old = opened(admin, channel)
    return admin.vault.scope(scope_text(channel, None if old is None else old.reveal()))
