"""Usage in the shapes upstreams report it, billed to the micro-credit against a bill computed by hand beside it.

A rate of $1 per 10^6 tokens is 1,000 credits per 10^6 tokens, which is 1,000 micro-credits a token:
the hand computations multiply tokens by thousandths of the dollar price.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from tollway.core.billing.ledger import Facts, bill, close
from tollway.core.billing.meters import meters_of
from tollway.core.billing.pricing import cost
from tollway.core.billing.rates import Rates
from tollway.core.dialects.anthropic import counts as anthropic
from tollway.core.dialects.base import Reading
from tollway.core.dialects.gemini import counts as gemini
from tollway.core.dialects.gemini.answer import read_response as gemini_answer
from tollway.core.dialects.openai_chat import counts as chat
from tollway.core.dialects.openai_chat.usage import read_told
from tollway.core.dialects.openai_responses import counts as responses


def dollars(**prices: str) -> Rates:
    """Dollars per 10^6 tokens as rates; `input_over_200000` is a threshold."""
    return Rates({name.replace("_over_", "@"): int(Decimal(usd) * 10**9) for name, usd in prices.items()})


GPT_5 = dollars(input="1.25", cache_read="0.125", output="10")
GPT_AUDIO = dollars(input="2.5", output="10", audio_in="32", audio_out="64")
GPT_6_LUNA = dollars(
    input="0.1", cache_read="0.01", cache_write="0.125", output="0.5",
    input_over_272000="0.2", cache_read_over_272000="0.02", cache_write_over_272000="0.25",
    output_over_272000="0.75",
)  # fmt: skip
OPUS_4_5 = dollars(input="5", cache_read="0.5", cache_write="6.25", cache_write_1h="10", output="25")
SONNET_4_5 = dollars(
    input="3", cache_read="0.3", cache_write="3.75", cache_write_1h="6", output="15",
    input_over_200000="6", cache_read_over_200000="0.6", cache_write_over_200000="7.5",
    cache_write_1h_over_200000="12", output_over_200000="22.5",
)  # fmt: skip
HAIKU_5_5 = dollars(
    input="0.1", cache_read="0.01", output="0.5",
    input_over_100000="0.5", cache_read_over_100000="0.05", output_over_100000="2.5",
)  # fmt: skip
GEMINI_2_5_PRO = dollars(
    input="1.25", cache_read="0.125", output="10",
    input_over_200000="2.5", cache_read_over_200000="0.25", output_over_200000="15",
)  # fmt: skip
GEMINI_2_5_FLASH = dollars(input="0.3", audio_in="1", cache_read="0.03", output="2.5")
GEMINI_IMAGE = dollars(input="0.3", output="2.5", image_token_out="30")
DEEPSEEK = dollars(input="0.28", cache_read="0.028", output="0.42")
GROK_4 = dollars(input="3", cache_read="0.75", output="15")
LLAMA = dollars(input="0.59", output="0.79")
QWEN_MAX = dollars(
    input="1.2", output="6", input_over_32000="2.4", output_over_32000="12",
    input_over_128000="3", output_over_128000="15",
)  # fmt: skip
EMBEDDING = dollars(input="0.02")


def fees(rates: Rates, **prices: str) -> Rates:
    """A price with more rates: dollars for one use, or per 10^6 tokens of a tier, as in `input__us`."""
    more = {}
    for name, usd in prices.items():
        key = name.replace("__", ":").replace("_over_", "@")
        tokens = key.partition(":")[0] in ("input", "output") or key.startswith("cache_")
        more[key] = int(Decimal(usd) * 10 ** (9 if tokens else 15))
    return Rates({**rates, **more})


OPUS_5_5 = fees(
    dollars(input="4", cache_read="0.2", cache_write="5", output="20"),
    input__us="4.4", cache_read__us="0.22", cache_write__us="5.5", output__us="22",
    input__fast="8", output__fast="40", web_search="0.01", code_session="0.05",
)  # fmt: skip
GPT_5_TOOLS = fees(
    GPT_5, input__priority="2.5", cache_read__priority="0.25", output__priority="20",
    input__flex="0.625", cache_read__flex="0.0625", output__flex="5",
    web_search="0.01", web_search__preview="0.025", file_search="0.0025", code_session="0.03",
)  # fmt: skip
GEMINI_3 = fees(
    dollars(input="1.5", cache_read="0.15", output="9"), web_search="0.014", map_search="0.014",
    input__priority="2.7", cache_read__priority="0.27", output__priority="16.2",
)  # fmt: skip
GEMINI_2_5_GROUNDED = fees(GEMINI_2_5_FLASH, grounded="0.035", map_search="0.025")
GROK_SEARCHING = fees(GROK_4, web_search="0.025")


def grounded(payload):
    """A whole Gemini answer's counts, as both relays have them."""
    return gemini_answer(payload, Reading()).usage


CASES = {
    "OpenAI chat: most of the prompt cached, reasoning within the completion": (
        chat.read_counts,
        {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 128, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        },
        GPT_5,
        {"input": 86, "cache_read": 1920, "output": 300},
        # 86 x 1,250 + 1,920 x 125 + 300 x 10,000
        107_500 + 240_000 + 3_000_000,
    ),
    "OpenAI chat: both sides speak": (
        chat.read_counts,
        {
            "prompt_tokens": 120, "completion_tokens": 200, "total_tokens": 320,
            "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 20, "audio_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 150, "text_tokens": 50},
        },
        GPT_AUDIO,
        {"input": 20, "audio_in": 100, "output": 50, "audio_out": 150},
        # 20 x 2,500 + 100 x 32,000 + 50 x 10,000 + 150 x 64,000
        50_000 + 3_200_000 + 500_000 + 9_600_000,
    ),
    "OpenAI Responses: cache read and written, over the threshold of 272k": (
        responses.read_counts,
        {
            "input_tokens": 300_000,
            "input_tokens_details": {"cached_tokens": 280_000, "cache_write_tokens": 10_000},
            "output_tokens": 1000, "output_tokens_details": {"reasoning_tokens": 640},
            "total_tokens": 301_000,
        },
        GPT_6_LUNA,
        {"input": 10_000, "cache_read": 280_000, "cache_write": 10_000, "output": 1000},
        # 10,000 x 200 + 280,000 x 20 + 10,000 x 250 + 1,000 x 750
        2_000_000 + 5_600_000 + 2_500_000 + 750_000,
    ),
    "OpenAI Responses: exactly at the threshold, which is not exceeded": (
        responses.read_counts,
        {
            "input_tokens": 272_000, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 272_010,
        },
        GPT_6_LUNA,
        {"input": 272_000, "output": 10},
        # 272,000 x 100 + 10 x 500
        27_200_000 + 5_000,
    ),
    "Anthropic: five-minute and one-hour writes beside a read": (
        anthropic.read_counts,
        {
            "input_tokens": 12, "cache_creation_input_tokens": 3000, "cache_read_input_tokens": 20_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
            "output_tokens": 500, "service_tier": "standard",
        },
        OPUS_4_5,
        {"input": 12, "cache_write": 1000, "cache_write_1h": 2000, "cache_read": 20_000, "output": 500},
        # 12 x 5,000 + 1,000 x 6,250 + 2,000 x 10,000 + 20,000 x 500 + 500 x 25,000
        60_000 + 6_250_000 + 20_000_000 + 10_000_000 + 12_500_000,
    ),
    "Anthropic: a first turn that writes the cache, below the threshold": (
        anthropic.read_counts,
        {
            "input_tokens": 21, "cache_creation_input_tokens": 188_086, "cache_read_input_tokens": 0,
            "output_tokens": 393,
        },
        SONNET_4_5,
        {"input": 21, "cache_write": 188_086, "output": 393},
        # 21 x 3,000 + 188,086 x 3,750 + 393 x 15,000
        63_000 + 705_322_500 + 5_895_000,
    ),
    "Anthropic: thinking, and a threshold that only the cached tokens exceed": (
        anthropic.read_counts,
        {
            "input_tokens": 5000, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 96_000,
            "output_tokens": 100, "output_tokens_details": {"thinking_tokens": 60},
        },
        HAIKU_5_5,
        {"input": 5000, "cache_read": 96_000, "output": 100},
        # 5,000 x 500 + 96,000 x 50 + 100 x 2,500
        2_500_000 + 4_800_000 + 250_000,
    ),
    "Gemini: cached content, thoughts beside the candidates, over 200k": (
        gemini.read_counts,
        {
            "promptTokenCount": 250_000, "cachedContentTokenCount": 200_000, "candidatesTokenCount": 1000,
            "thoughtsTokenCount": 2500, "totalTokenCount": 253_500,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 250_000}],
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 200_000}],
        },
        GEMINI_2_5_PRO,
        {"input": 50_000, "cache_read": 200_000, "output": 3500},
        # 50,000 x 2,500 + 200,000 x 250 + 3,500 x 15,000
        125_000_000 + 50_000_000 + 52_500_000,
    ),
    "Gemini: a recording and a question about it": (
        gemini.read_counts,
        {
            "promptTokenCount": 1920, "candidatesTokenCount": 30, "totalTokenCount": 1950,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 20}, {"modality": "AUDIO", "tokenCount": 1900},
            ],
        },
        GEMINI_2_5_FLASH,
        {"input": 20, "audio_in": 1900, "output": 30},
        # 20 x 300 + 1,900 x 1,000 + 30 x 2,500
        6_000 + 1_900_000 + 75_000,
    ),
    "Gemini: a picture as output": (
        gemini.read_counts,
        {
            "promptTokenCount": 264, "candidatesTokenCount": 1300, "totalTokenCount": 1564,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
        },
        GEMINI_IMAGE,
        {"input": 264, "output": 10, "image_token_out": 1290},
        # 264 x 300 + 10 x 2,500 + 1,290 x 30,000
        79_200 + 25_000 + 38_700_000,
    ),
    "DeepSeek: a cache hit, told twice": (
        chat.read_counts,
        {
            "prompt_tokens": 1024, "completion_tokens": 200, "total_tokens": 1224,
            "prompt_tokens_details": {"cached_tokens": 960},
            "completion_tokens_details": {"reasoning_tokens": 150},
            "prompt_cache_hit_tokens": 960, "prompt_cache_miss_tokens": 64,
        },
        DEEPSEEK,
        {"input": 64, "cache_read": 960, "output": 200},
        # 64 x 280 + 960 x 28 + 200 x 420
        17_920 + 26_880 + 84_000,
    ),
    "xAI: reasoning counted beside the completion, as its total tells": (
        chat.read_counts,
        {
            "prompt_tokens": 199, "completion_tokens": 9, "total_tokens": 302,
            "prompt_tokens_details": {
                "text_tokens": 199, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 163,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 94, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
            "num_sources_used": 0,
        },
        GROK_4,
        {"input": 36, "cache_read": 163, "output": 103},
        # 36 x 3,000 + 163 x 750 + (9 + 94) x 15,000
        108_000 + 122_250 + 1_545_000,
    ),
    "Llama on a fast host: times beside the counts": (
        chat.read_counts,
        {
            "queue_time": 0.018, "prompt_tokens": 21, "prompt_time": 0.0005, "completion_tokens": 33,
            "completion_time": 0.12, "total_tokens": 54, "total_time": 0.1205,
        },
        LLAMA,
        {"input": 21, "output": 33},
        # 21 x 590 + 33 x 790
        12_390 + 26_070,
    ),
    "Qwen: between its two thresholds": (
        chat.read_counts,
        {"prompt_tokens": 40_000, "completion_tokens": 10, "total_tokens": 40_010},
        QWEN_MAX,
        {"input": 40_000, "output": 10},
        # 40,000 x 2,400 + 10 x 12,000
        96_000_000 + 120_000,
    ),
    "Anthropic: three searches, inferred in the US": (
        anthropic.read_counts,
        {
            "input_tokens": 30_105, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4000,
            "output_tokens": 1200, "service_tier": "standard", "inference_geo": "us", "speed": "standard",
            "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 2},
        },
        OPUS_5_5,
        {"tier:us": 1, "input": 30_105, "cache_read": 4000, "output": 1200, "web_search": 3},
        # 30,105 x 4,400 + 4,000 x 220 + 1,200 x 22,000 + 3 x 0.01 dollars, which are 10,000,000
        132_462_000 + 880_000 + 26_400_000 + 30_000_000,
    ),
    "Anthropic: fast, with cached tokens that the tier does not sell apart": (
        anthropic.read_counts,
        {
            "input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 10, "speed": "fast",
            "service_tier": "standard", "inference_geo": "global",
        },
        OPUS_5_5,
        {"tier:fast": 1, "input": 1000, "output": 10},
        # 1,000 x 8,000 + 10 x 40,000
        8_000_000 + 400_000,
    ),
    "Anthropic: a summary on the way, which the totals leave out": (
        anthropic.read_counts,
        {
            "input_tokens": 23_000, "output_tokens": 1000, "service_tier": "standard",
            "iterations": [
                {
                    "type": "compaction", "input_tokens": 80_000, "cache_read_input_tokens": 100_000,
                    "output_tokens": 3500,
                },
                {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
            ],
        },
        OPUS_5_5,
        {"input": 103_000, "cache_read": 100_000, "output": 4500},
        # (23,000 + 80,000) x 4,000 + 100,000 x 200 + (1,000 + 3,500) x 20,000
        412_000_000 + 20_000_000 + 90_000_000,
    ),
    "OpenAI chat: asked for priority and served on it": (
        read_told,
        {
            "service_tier": "priority",
            "usage": {
                "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920},
            },
        },
        GPT_5_TOOLS,
        {"tier:priority": 1, "input": 86, "cache_read": 1920, "output": 300},
        # 86 x 2,500 + 1,920 x 250 + 300 x 20,000
        215_000 + 480_000 + 6_000_000,
    ),
    "OpenAI chat: asked for priority, served as usual": (
        read_told,
        {"service_tier": "default", "usage": {"prompt_tokens": 86, "completion_tokens": 300}},
        GPT_5_TOOLS,
        {"input": 86, "output": 300},
        # 86 x 1,250 + 300 x 10,000
        107_500 + 3_000_000,
    ),
    "OpenAI Responses: flex, two searches, a page opened, a file search, two runs in one container": (
        responses.read_total,
        {
            "service_tier": "flex",
            "tools": [{"type": "web_search"}, {"type": "file_search"}, {"type": "code_interpreter"}],
            "output": [
                {"type": "web_search_call", "action": {"type": "search", "query": "a"}},
                {"type": "web_search_call", "action": {"type": "open_page", "url": "https://a.example"}},
                {"type": "web_search_call", "action": {"type": "search", "query": "b"}},
                {"type": "file_search_call", "queries": ["c"]},
                {"type": "code_interpreter_call", "container_id": "cntr_1"},
                {"type": "code_interpreter_call", "container_id": "cntr_1"},
                {"type": "message", "content": []},
            ],
            "usage": {"input_tokens": 9000, "output_tokens": 700, "input_tokens_details": {"cached_tokens": 0}},
        },
        GPT_5_TOOLS,
        {"tier:flex": 1, "input": 9000, "output": 700, "web_search": 2, "file_search": 1, "code_session": 1},
        # 9,000 x 625 + 700 x 5,000 + 2 x 10,000,000 + 2,500,000 + 30,000,000
        5_625_000 + 3_500_000 + 20_000_000 + 2_500_000 + 30_000_000,
    ),
    "OpenAI Responses: two containers of more than the usual memory": (
        responses.read_total,
        {
            "tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}],
            "output": [
                {"type": "code_interpreter_call", "container_id": "cntr_1"},
                {"type": "code_interpreter_call", "container_id": "cntr_2"},
            ],
            "usage": {"input_tokens": 100, "output_tokens": 10},
        },
        fees(GPT_5_TOOLS, code_session__4g="0.12"),
        {"input": 100, "output": 10, "code_session:4g": 2},
        # 100 x 1,250 + 10 x 10,000 + 2 x 120,000,000
        125_000 + 100_000 + 240_000_000,
    ),
    "OpenAI Responses: the older search, which has a price of its own, by what the upstream counts": (
        responses.read_total,
        {
            "service_tier": "default", "tools": [{"type": "web_search_preview"}],
            "output": [{"type": "web_search_call", "status": "completed"}],
            "tool_usage": {"web_search": {"num_requests": 2}},
            "usage": {"input_tokens": 100, "output_tokens": 10},
        },
        GPT_5_TOOLS,
        {"input": 100, "output": 10, "web_search:preview": 2},
        # 100 x 1,250 + 10 x 10,000 + 2 x 25,000,000
        125_000 + 100_000 + 50_000_000,
    ),
    "Gemini 3: two different queries of three, on priority": (
        grounded,
        {
            "candidates": [{
                "content": {"parts": [{"text": "Spain won."}]}, "finishReason": "STOP",
                "groundingMetadata": {"webSearchQueries": ["euro 2024", "final score", "euro 2024", ""]},
            }],
            "usageMetadata": {
                "promptTokenCount": 20, "toolUsePromptTokenCount": 80, "candidatesTokenCount": 5,
                "totalTokenCount": 105, "serviceTier": "priority",
            },
        },
        GEMINI_3,
        {"tier:priority": 1, "input": 100, "output": 5, "web_search": 2},
        # 100 x 2,700 + 5 x 16,200 + 2 x 14,000,000
        270_000 + 81_000 + 28_000_000,
    ),
    "Gemini 2.5 at Vertex: a grounded call is charged once, and the map beside it": (
        grounded,
        {
            "candidates": [{
                "content": {"parts": [{"text": "Here."}]}, "finishReason": "STOP",
                "groundingMetadata": {
                    "webSearchQueries": ["a", "b"],
                    "groundingChunks": [{"web": {"uri": "https://a.example"}}, {"maps": {"uri": "https://b.example"}}],
                },
            }],
            "usageMetadata": {
                "promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110,
                "trafficType": "ON_DEMAND",
            },
        },
        GEMINI_2_5_GROUNDED,
        {"input": 100, "output": 10, "map_search": 1, "grounded": 1},
        # 100 x 300 + 10 x 2,500 + 25,000,000 + 35,000,000
        30_000 + 25_000 + 25_000_000 + 35_000_000,
    ),
    "xAI: sources of a live search": (
        chat.read_counts,
        {
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "num_sources_used": 7,
        },
        GROK_SEARCHING,
        {"input": 100, "output": 10, "web_search": 7},
        # 100 x 3,000 + 10 x 15,000 + 7 x 25,000,000
        300_000 + 150_000 + 175_000_000,
    ),
    "an embedding": (
        chat.read_counts,
        {"prompt_tokens": 8, "total_tokens": 8},
        EMBEDDING,
        {"input": 8},
        # 8 x 20
        160,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_a_reported_usage_is_billed_to_the_micro_credit(case) -> None:
    read, payload, rates, meters, amount = CASES[case]
    usage = read(payload)
    assert not usage.anomalous
    assert meters_of(usage, rates) == meters
    assert cost(meters, rates) == amount
    # What is stored with a call is enough to recompute its bill from the plain price version.
    assert cost(dict(meters), dict(rates)) == amount


def test_the_bill_of_a_reported_usage_is_what_its_call_is_charged() -> None:
    read, payload, rates, _, amount = CASES[
        "Gemini: cached content, thoughts beside the candidates, over 200k"
    ]
    due = bill(Facts(accepted=True, usage=read(payload), output_tokens=1, finished=True, usage_final=True))
    assert due.outcome == "ok" and due.flags == ()
    assert close(due, rates, 10**12, bounded=True).amount == amount
    # A tenth less: 227,500,000 x 0.9
    assert close(due, rates.less(1000), 10**12, bounded=True).amount == 204_750_000
