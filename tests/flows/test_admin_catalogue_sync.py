"""Taking over public models: plans, what they leave alone, routes and costs, discounts."""

import asyncio
from decimal import Decimal

import pytest
from tests.support.admin import Clock, do, instance, ready, refused

from tollway.flows.admin import public_models
from tollway.store import audit, discounts
from tollway.store import models as rows


@pytest.fixture
async def admin(tmp_path):
    async with instance(ready(tmp_path), clock=Clock()) as found:
        yield found


def row_of(name: str, provider: str):
    return next(row for row in public_models.shipped().models if (row.id, row.provider) == (name, provider))


async def model_of(admin, name: str):
    return (await admin.read(rows.catalogue)).models[name]


def names(planned) -> list[str]:
    return [one["name"] for one in planned]


async def test_a_plan_changes_nothing_and_applying_it_twice_changes_nothing_more(admin):
    before = await admin.read(rows.catalogue)
    plan = await do(admin, "model.sync", provider="openai", models="gpt-5*")
    assert plan["applied"] is False
    assert {"gpt-5", "gpt-5-mini", "gpt-5.4"} <= set(names(plan["added"]))
    assert plan["changed"] == plan["kept"] == [] and plan["unchanged"] == 0
    assert await admin.read(rows.catalogue) == before

    done = await do(admin, "model.sync", provider="openai", models="gpt-5*", apply=True)
    assert {**done, "applied": False} == plan
    row, model = row_of("gpt-5.4", "openai"), await model_of(admin, "gpt-5.4")
    assert model.price.rates == row.rates
    assert "input@272000" in model.price.rates
    assert model.price.source == f"catalogue {row.date} openai"
    assert (model.provider, model.context_window, model.output_max) == (
        "openai",
        row.context_window,
        row.output_max,
    )
    assert (model.capabilities, model.parameters) == (row.capabilities, row.parameters)
    assert model.status == "enabled" and model.routes == ()

    again = await do(admin, "model.sync", provider="openai", models="gpt-5*", apply=True)
    assert (again["added"], again["changed"], again["kept"]) == ([], [], [])
    assert again["unchanged"] == len(plan["added"])
    assert len(await admin.read(lambda conn: rows.prices(conn, "gpt-5.4"))) == 1


async def test_without_a_choice_only_models_that_exist_are_looked_at(admin):
    await do(
        admin,
        "channel.add",
        name="up",
        base_url="http://127.0.0.1:1/v1",
        models=["gpt-5", "mine", "kimi-k3"],
    )
    plan = await do(admin, "model.sync")
    assert plan["added"] == [] and plan["kept"] == []
    # The provisional price nobody chose gives way to the public one, that of the model's maker.
    assert names(plan["changed"]) == ["gpt-5", "kimi-k3"]
    gpt, kimi = plan["changed"]
    assert kimi["provider"] == "moonshotai"
    assert [
        one for one in gpt["rates"] if one["rate"] in ("input", "cache_read", "output", "web_search")
    ] == [
        {"rate": "input", "old": 3000, "new": 1250, "percent": Decimal("-58.3")},
        {"rate": "cache_read", "old": None, "new": 125, "percent": None},
        {"rate": "output", "old": 15000, "new": 10000, "percent": Decimal("-33.3")},
        {"rate": "web_search", "old": None, "new": 10, "percent": None},
    ]
    assert set(gpt["facts"]) >= {"provider", "context_window", "capabilities"}
    await do(admin, "model.sync", apply=True)
    assert (await model_of(admin, "gpt-5")).provider == "openai"
    assert (await model_of(admin, "mine")).price.source == "provisional"


async def test_a_price_set_by_hand_is_kept_unless_that_is_asked_for(admin):
    await do(admin, "model.add", name="gpt-5", prices={"input": "1", "output": "2"}, description="ours")
    plan = await do(admin, "model.sync", models="gpt-5", apply=True)
    assert names(plan["kept"]) == ["gpt-5"] and plan["kept"][0]["why"] == "its price was set by hand"
    assert plan["kept"][0]["rates"][0] == {
        "rate": "input",
        "old": 1,
        "new": 1250,
        "percent": Decimal("124900.0"),
    }
    model = await model_of(admin, "gpt-5")
    assert model.price.rates == {"input": 10**6, "output": 2 * 10**6} and model.provider == ""
    done = await do(admin, "model.sync", models="gpt-5", overwrite=True, apply=True)
    assert names(done["changed"]) == ["gpt-5"]
    model = await model_of(admin, "gpt-5")
    assert model.price.rates == row_of("gpt-5", "openai").rates
    assert model.description == "ours", "what the operator said stays"


async def test_a_name_that_means_something_else_here_is_left_alone(admin):
    await do(admin, "model.add", name="mine", prices={"input": "1", "output": "2"})
    await do(admin, "model.alias", alias="gpt-5", name="mine")
    await do(admin, "model.add", name="gpt-image-2", prices={"input": "1", "output": "2"})
    plan = await do(admin, "model.sync", provider="openai", models="gpt-*", overwrite=True, apply=True)
    assert {one["name"]: one["why"] for one in plan["kept"]} == {
        "gpt-5": "the name is an alias of mine",
        "gpt-image-2": "here it is a model of the kind chat",
    }
    assert (await admin.read(rows.catalogue)).aliases["gpt-5"] == "mine"


async def test_a_markup_is_rounded_up_and_remembered(admin):
    await do(admin, "model.sync", models="gpt-5-nano", markup="33.33", apply=True)
    model = await model_of(admin, "gpt-5-nano")
    # $0.05, $0.005 and $0.4 per 10^6 tokens, times 1.3333
    tokens = {"input": 66_665_000, "cache_read": 6_666_500, "output": 533_320_000}
    # ... and $10 and $2.50 for a thousand searches
    searches = {"web_search": 13_333_000_000_000, "file_search": 3_333_250_000_000}
    assert {key: model.price.rates[key] for key in (*tokens, *searches)} == {**tokens, **searches}
    assert model.price.source.endswith("openai +33.33%")
    same = await do(admin, "model.sync")
    assert (same["changed"], same["unchanged"]) == ([], 1)
    back = await do(admin, "model.sync", markup="0", apply=True)
    assert [change["percent"] for change in back["changed"][0]["rates"]] == [Decimal("-25.0")] * len(
        model.price.rates
    )
    assert (await model_of(admin, "gpt-5-nano")).price.rates == row_of("gpt-5-nano", "openai").rates


async def test_a_channel_serves_what_was_taken_over_and_knows_its_cost(admin):
    await do(admin, "channel.add", name="fw", base_url="http://127.0.0.1:1/v1", models=["kimi-k3=elsewhere"])
    wanted = {"provider": "fireworks", "models": "kimi-k3*", "channel": "fw", "markup": "10"}
    plan = await do(admin, "model.sync", **wanted)
    assert {one["name"]: one["route"] for one in [*plan["added"], *plan["changed"]]}["kimi-k3"] == "elsewhere"
    await do(admin, "model.sync", **wanted, apply=True)
    row, fast = row_of("kimi-k3", "fireworks"), await model_of(admin, "kimi-k3-fast")
    known = await model_of(admin, "kimi-k3")
    assert known.routes[0].upstream_model == "elsewhere" and known.routes[0].cost == row.rates
    assert fast.routes[0].upstream_model == "accounts/fireworks/models/kimi-k3-fast"
    assert fast.price.rates["input"] == fast.routes[0].cost["input"] * 11 // 10
    assert (await do(admin, "model.show", name="kimi-k3-fast"))["details"]["callable"] is True
    again = await do(admin, "model.sync", **wanted)
    assert (again["added"], again["changed"]) == ([], [])
    log = [row.action for row in await admin.read(audit.page)]
    assert log.count("channel.serve") >= 2 and "model.add" in log


async def test_a_disabled_model_stays_disabled(admin):
    await do(admin, "model.sync", models="gpt-5", apply=True)
    await do(admin, "model.disable", name="gpt-5")
    await do(admin, "model.sync", models="gpt-5", markup="5", apply=True)
    assert (await model_of(admin, "gpt-5")).status == "disabled"


async def test_a_model_whose_price_cannot_be_read_is_not_sold(admin):
    await do(admin, "model.sync", models="gpt-5", apply=True)
    unreadable = '{"input":1,"output":2,"moonlight":3}'
    await admin.store.write(
        lambda conn: conn.exec_driver_sql(
            f"INSERT INTO price_version (model_id, rates, created_at) VALUES ('gpt-5', '{unreadable}', 1)"
        )
    )
    assert (await model_of(admin, "gpt-5")).price is None
    await do(admin, "model.disable", name="gpt-5")
    refusal = await refused(admin, "model.enable", name="gpt-5")
    assert refusal.what == "The model 'gpt-5' has no price"
    assert len((await do(admin, "model.show", name="gpt-5"))["prices"]) == 1
    done = await do(admin, "model.sync", apply=True)
    assert done["changed"][0]["rates"][0] == {"rate": "input", "old": None, "new": 1250, "percent": None}
    assert (await model_of(admin, "gpt-5")).price.rates == row_of("gpt-5", "openai").rates


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"provider": "opnai"}, "No provider 'opnai'"),
        ({"models": "no such"}, "'no such' is no pattern"),
        ({"models": "nosuch*"}, "No public model matches 'nosuch*'"),
        ({"provider": "kling", "models": "gpt*"}, "No public model of kling matches"),
        ({"models": "gpt-5", "markup": "-101"}, "A markup of -101 percent"),
        ({"models": "gpt-5", "markup": "NaN"}, "A markup of NaN percent"),
        ({"models": "gpt-5", "channel": "nowhere"}, "No channel 'nowhere'"),
    ],
)
async def test_impossible_syncs_are_refused(admin, arguments, what):
    assert what in (await refused(admin, "model.sync", **arguments)).what


# -- prices in every unit ----------------------------------------------------------------------


async def test_a_price_has_tiers_variants_and_units(admin):
    prices = {"image": "40", "image:1024x1024:high": "167", "image_in": "2.5", "call": "0.000001"}
    made = await do(admin, "model.add", name="pictures", kind="image", prices=prices)
    assert made["price"]["rates"] == {
        "image": 40,
        "image:1024x1024:high": 167,
        "image_in": Decimal("2.5"),
        "call": Decimal("0.000001"),
    }
    model = await model_of(admin, "pictures")
    assert model.price.rates["image:1024x1024:high"] == 167 * 10**12
    tiered = {"input": "1250", "output": "10000", "input@200k": "2500", "output@200000": "15000"}
    await do(admin, "model.add", name="large", prices={"input": "1", "output": "1"})
    priced = await do(admin, "model.price", name="large", prices=tiered)
    assert priced["new"]["rates"] == {
        "input": 1250, "output": 10000, "input@200000": 2500, "output@200000": 15000,
    }  # fmt: skip
    # What is shown can be typed again.
    again = await do(admin, "model.price", name="large", prices=priced["new"]["rates"])
    assert again["new"]["rates"] == priced["new"]["rates"]


@pytest.mark.parametrize(
    ("prices", "what", "why"),
    [
        ({"input": "1", "output": "2", "imput@5": "3"}, "There is no meter 'imput'", "Did you mean 'input'?"),
        ({"input": "1", "output": "2", "input@0k": "3"}, "'input@0k' is no rate", "METER@TOKENS"),
        ({"input": "1", "output": "2", "cache_read@5": "3"}, "These rates make no price", "needs a rate"),
        ({"input": "5", "output": "2", "input@5": "3"}, "These rates make no price", "rates rise with size"),
        ({"input": "1", "output": "2", "input@1k": "3", "input@1000": "3"}, "is given twice", ""),
        ({"input": "1", "output": "-2"}, "A price of -2 for output", "0 to 1000000 credits"),
        ({"input": "1", "output": "2", "song": "1e-13"}, "is too fine", ""),
    ],
)
async def test_impossible_prices_are_refused(admin, prices, what, why):
    refusal = await refused(admin, "model.add", name="m", prices=prices)
    assert what in refusal.what and why in refusal.why


# -- discounts ---------------------------------------------------------------------------------


async def test_discounts_are_set_listed_and_taken_away(admin):
    made = await do(admin, "model.discount", percent="12.5", group="gold")
    assert (made["scope"], made["name"], made["old"], made["new"]) == ("group", "gold", 0, Decimal("12.5"))
    await do(admin, "model.discount", percent="100", account="main")
    assert [(one["scope"], one["name"], one["percent"]) for one in await do(admin, "model.discounts")] == [
        ("account", "main", 100),
        ("group", "gold", Decimal("12.5")),
    ]
    catalogue = await admin.read(rows.catalogue)
    account = next(owner for scope, owner in catalogue.discounts if scope == "account")
    assert catalogue.discount(account, "gold") == 10_000
    assert catalogue.discount("somebody", "gold") == 1250
    assert catalogue.discount("somebody", "default") == 0
    away = await do(admin, "model.discount", percent="0", group="gold")
    assert away["old"] == Decimal("12.5")
    assert [one.scope for one in await admin.read(discounts.listed)] == ["account"]
    log = [(row.action, row.after) for row in await admin.read(audit.page)]
    assert ("discount.group", {"percent": "12.5"}) in log


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"percent": "-1", "group": "gold"}, "A discount of -1 percent"),
        ({"percent": "100.01", "group": "gold"}, "A discount of 100.01 percent"),
        ({"percent": "0.001", "group": "gold"}, "A discount of 0.001 percent"),
        ({"percent": "NaN", "group": "gold"}, "A discount of NaN percent"),
        ({"percent": "5"}, "Whose discount is it?"),
        ({"percent": "5", "group": "gold", "account": "main"}, "Whose discount is it?"),
        ({"percent": "5", "group": "Gold!"}, "'Gold!' cannot name a group"),
        ({"percent": "5", "account": "nobody"}, "No account 'nobody'"),
    ],
)
async def test_impossible_discounts_are_refused(admin, arguments, what):
    assert what in (await refused(admin, "model.discount", **arguments)).what


# -- two processes -----------------------------------------------------------------------------


@pytest.mark.postgres
async def test_syncs_and_discounts_at_once_are_done_once_on_postgresql(tmp_path, postgres_database):
    url = postgres_database()
    async with (
        instance(tmp_path, database_url=url) as first,
        instance(tmp_path, set_up=False, database_url=url) as second,
    ):
        wanted = {"provider": "anthropic", "models": "claude-opus-4-*", "markup": "10", "apply": True}
        results = await asyncio.gather(*(do(one, "model.sync", **wanted) for one in (first, second) * 2))
        # One of them adds the models; the others find them as they should be.
        assert sorted(len(one["added"]) for one in results)[:3] == [0, 0, 0]
        added = [planned for one in results for planned in one["added"]]
        assert added
        for name in names(added):
            assert len(await first.read(lambda conn, name=name: rows.prices(conn, name))) == 1
        await asyncio.gather(
            *(do(one, "model.discount", percent=n, group="gold") for n, one in enumerate((first, second) * 2))
        )
        assert len(await first.read(discounts.listed)) <= 1
        assert (await do(second, "model.sync", **wanted))["changed"] == []
