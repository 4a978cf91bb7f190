"""Every administrative operation by its name, and performing one from plain arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec

from tollway.flows.admin import (
    alerts,
    calls,
    caps,
    catalogue_sync,
    channel_changes,
    channels,
    codes,
    connecting,
    credit,
    discounts,
    estimates,
    explain,
    health,
    jobs,
    keys,
    models,
    people,
    project_budgets,
    serving,
    upstreams,
    usage,
    wallets,
)
from tollway.flows.admin.context import Admin
from tollway.flows.admin.refusals import Refused, nearest
from tollway.store.base import LedgerUnavailable, StoreError


class Operation(NamedTuple):
    """What an operation is asked with, and what does it."""

    request: type[Any]
    run: Callable[[Admin, Any], Awaitable[Any]]


OPERATIONS: Final[dict[str, Operation]] = {
    "account.create": Operation(people.CreateAccount, people.create_account),
    "account.list": Operation(people.Nothing, people.list_accounts),
    "account.resume": Operation(people.OneAccount, people.resume_account),
    "account.suspend": Operation(people.OneAccount, people.suspend_account),
    "admin.create": Operation(people.CreateAdmin, people.create_admin),
    "alert.ack": Operation(alerts.SeeAlert, alerts.acknowledge),
    "alert.list": Operation(alerts.ListAlerts, alerts.listed),
    "call.explain": Operation(explain.ExplainCall, explain.explain),
    "call.list": Operation(calls.ListCalls, calls.listed),
    "channel.add": Operation(connecting.AddChannel, channels.add),
    "channel.disable": Operation(channels.OneChannel, channels.disable),
    "channel.discover": Operation(channels.OneChannel, upstreams.discover),
    "channel.enable": Operation(channels.OneChannel, channels.enable),
    "channel.list": Operation(people.Nothing, channels.listed),
    "channel.presets": Operation(people.Nothing, upstreams.presets),
    "channel.remove": Operation(channels.OneChannel, channels.remove),
    "channel.rotate": Operation(channel_changes.RotateChannel, channel_changes.rotate),
    "channel.serve": Operation(serving.ServeModels, serving.serve),
    "channel.set": Operation(channel_changes.SetChannel, channel_changes.put),
    "channel.show": Operation(channels.OneChannel, channels.show),
    "channel.test": Operation(upstreams.TestChannel, upstreams.test),
    "code.create": Operation(codes.MakeCodes, codes.make),
    "code.list": Operation(people.Nothing, codes.listed),
    "code.void": Operation(codes.OneBatch, codes.void),
    "credits.alert": Operation(wallets.WatchBalance, wallets.watch),
    "credits.balance": Operation(credit.OneWallet, credit.balance),
    "credits.estimate": Operation(estimates.AskEstimate, estimates.estimate),
    "credits.grant": Operation(credit.Grant, credit.grant),
    "credits.adjust": Operation(credit.Adjust, credit.adjust),
    "credits.ledger": Operation(credit.LedgerPage, credit.ledger),
    "credits.overdraft": Operation(wallets.SetOverdraft, wallets.overdraft),
    "credits.redeem": Operation(codes.RedeemCode, codes.redeem),
    "credits.refund": Operation(credit.Refund, credit.refund),
    "credits.verify": Operation(people.Nothing, credit.verify),
    "health.check": Operation(health.Check, health.check),
    "health.status": Operation(people.Nothing, health.status),
    "job.history": Operation(jobs.JobHistory, jobs.history),
    "job.list": Operation(people.Nothing, jobs.listed),
    "job.run": Operation(jobs.OneJob, jobs.run),
    "key.cap": Operation(caps.CapKey, caps.cap),
    "key.create": Operation(keys.CreateKey, keys.create),
    "key.disable": Operation(keys.OneKey, keys.disable),
    "key.enable": Operation(keys.OneKey, keys.enable),
    "key.limit": Operation(keys.LimitKey, keys.limit),
    "key.list": Operation(keys.ListKeys, keys.listed),
    "key.revoke": Operation(keys.OneKey, keys.revoke),
    "key.rotate": Operation(keys.RotateKey, keys.rotate),
    "key.show": Operation(keys.OneKey, keys.show),
    "key.test": Operation(estimates.TryKey, estimates.try_key),
    "model.add": Operation(models.AddModel, models.add),
    "model.alias": Operation(models.AliasModel, models.alias),
    "model.disable": Operation(models.OneModel, models.disable),
    "model.discount": Operation(discounts.SetDiscount, discounts.put),
    "model.discounts": Operation(people.Nothing, discounts.listed),
    "model.enable": Operation(models.OneModel, models.enable),
    "model.list": Operation(models.ListModels, models.listed),
    "model.price": Operation(models.PriceModel, models.price),
    "model.show": Operation(models.OneModel, models.show),
    "model.sync": Operation(catalogue_sync.SyncModels, catalogue_sync.sync),
    "model.unalias": Operation(models.OneAlias, models.unalias),
    "project.budget": Operation(project_budgets.BudgetProject, project_budgets.budget),
    "project.create": Operation(people.CreateProject, people.create_project),
    "project.list": Operation(people.ListProjects, people.list_projects),
    "usage.show": Operation(usage.AskUsage, usage.show),
}


async def perform(admin: Admin, name: str, arguments: dict[str, Any]) -> Any:
    """Do an operation and return its result, a struct or a list of them.

    Raises Refused: the arguments are impossible, or the operation itself refuses, or the database
    cannot commit now.
    """
    operation = OPERATIONS.get(name)
    if operation is None:
        near = nearest(name, OPERATIONS)
        raise Refused(
            "invalid", f"There is no operation {name[:80]!r}", f"Did you mean {near[0]!r}?" if near else ""
        )
    try:
        request = msgspec.convert(arguments, operation.request, strict=False)
    except msgspec.ValidationError as error:
        raise Refused("invalid", f"The arguments of {name} are not possible", f"{error}.") from None
    try:
        return await operation.run(admin, request)
    except LedgerUnavailable as error:
        raise Refused(
            "unavailable", "The database cannot commit at the moment", f"{error}.", "Try again shortly"
        ) from None
    except StoreError as error:
        raise Refused("failed", "The database refused", f"{error}.") from None
