"""Providers as data: where they are, what they speak, which variable holds their key, and how they deviate.

A preset fills in a new channel. Its quirks are looked up by the name it leaves in the channel's
options, so that a newer version of the gateway corrects channels that exist.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from tollway.core.exchange import DialectName
from tollway.core.routing.models import Channel

OPTION: Final = "preset"
"""The channel option that holds a preset's name."""

DEVIATIONS: Final[dict[str, str]] = {
    "empty_tool_ids": "tool calls may come with an empty id",
    "list_elsewhere": "the list of models is not where the dialect has it",
    "no_list": "there is no list of models",
    "no_usage_in_stream": "a stream may end without usage, which is then estimated",
    "reasoning": "thoughts come in the field reasoning",
    "reasoning_content": "thoughts come in the field reasoning_content",
    "reasoning_in_text": "thoughts may come inside the text, between think tags",
    "short_tool_ids": "ids of tool calls have exactly nine characters",
    "stream_comments": "streams hold comments while the model is waited for",
    "tool_index_missing": "pieces of tool calls may come without an index",
    "usage_in_every_chunk": "every chunk carries the usage so far",
    "usage_on_finish": "the usage comes with the finish reason, not in a chunk of its own",
    "whole_tool_calls": "tool calls come in one piece",
}
"""How providers deviate from the dialect they imitate. The readers cope with all of it; it is told so that nobody is surprised."""


class Preset(Struct, frozen=True, kw_only=True):
    """One provider.

    `bases`: base URLs by dialect, the first is the default; `{name}` in them is asked for at
    `channel add` (`--set name=value`). `variable`: the environment variable its own tools read the
    key from, "" where it takes none. `local`: runs on this machine, so that a key is optional.
    `platform`: see `upstream/platforms`. `quirks`: see `core/routing/targets.py`; they hold for the
    provider's default dialect.
    """

    name: str
    title: str
    bases: dict[DialectName, str]
    variable: str = ""
    docs: str = ""
    local: bool = False
    platform: str = ""
    quirks: dict[str, Any] = {}
    deviations: tuple[str, ...] = ()

    @property
    def dialect(self) -> DialectName:
        """What a channel speaks where nothing else is asked for."""
        return next(iter(self.bases))


def _chat(url: str) -> dict[DialectName, str]:
    return {"openai_chat": url}


def _openai(url: str) -> dict[DialectName, str]:
    return {"openai_chat": url, "openai_responses": url}


def _both(url: str, anthropic: str) -> dict[DialectName, str]:
    return {"openai_chat": url, "anthropic": anthropic}


_NO_SCHEMA: Final = {"json_schema": False}
_NEW_LIMIT: Final = {"completion_tokens_field": "max_completion_tokens"}

_ROWS: Final = (
    Preset(
        name="openai",
        title="OpenAI",
        bases=_openai("https://api.openai.com/v1"),
        variable="OPENAI_API_KEY",
        docs="https://platform.openai.com/docs/api-reference",
        quirks=_NEW_LIMIT,
    ),
    Preset(
        name="anthropic",
        title="Anthropic",
        bases={"anthropic": "https://api.anthropic.com/v1"},
        variable="ANTHROPIC_API_KEY",
        docs="https://platform.claude.com/docs",
    ),
    Preset(
        name="gemini",
        title="Google Gemini API",
        bases={
            "gemini": "https://generativelanguage.googleapis.com/v1beta",
            "openai_chat": "https://generativelanguage.googleapis.com/v1beta/openai",
        },
        variable="GEMINI_API_KEY",
        docs="https://ai.google.dev/gemini-api/docs",
        deviations=("usage_in_every_chunk", "whole_tool_calls", "empty_tool_ids"),
    ),
    Preset(
        name="azure",
        title="Azure OpenAI",
        bases=_openai("https://{resource}.openai.azure.com"),
        variable="AZURE_OPENAI_API_KEY",
        docs="https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        platform="azure",
        quirks=_NEW_LIMIT,
        deviations=("no_list",),
    ),
    Preset(
        name="vertex",
        title="Google Vertex AI",
        bases={
            "gemini": "https://{location}-aiplatform.googleapis.com/v1",
            "anthropic": "https://{location}-aiplatform.googleapis.com/v1",
        },
        variable="GOOGLE_APPLICATION_CREDENTIALS_JSON",
        docs="https://cloud.google.com/vertex-ai/generative-ai/docs",
        platform="vertex",
        deviations=("no_list", "usage_in_every_chunk", "whole_tool_calls", "empty_tool_ids"),
    ),
    Preset(
        name="bedrock",
        title="Amazon Bedrock (Anthropic's models)",
        bases={"anthropic": "https://bedrock-runtime.{region}.amazonaws.com"},
        variable="AWS_BEARER_TOKEN_BEDROCK",
        docs="https://docs.aws.amazon.com/bedrock/latest/userguide",
        platform="bedrock",
        deviations=("no_list",),
    ),
    Preset(
        name="deepseek",
        title="DeepSeek",
        bases=_both("https://api.deepseek.com/v1", "https://api.deepseek.com/anthropic/v1"),
        variable="DEEPSEEK_API_KEY",
        docs="https://api-docs.deepseek.com",
        quirks={**_NO_SCHEMA, "keeps_reasoning": True},
        deviations=("reasoning_content", "usage_on_finish", "stream_comments"),
    ),
    Preset(
        name="xai",
        title="xAI",
        bases=_openai("https://api.x.ai/v1"),
        variable="XAI_API_KEY",
        docs="https://docs.x.ai",
        quirks=_NEW_LIMIT,
        deviations=("reasoning_content", "whole_tool_calls"),
    ),
    Preset(
        name="groq",
        title="Groq",
        bases=_openai("https://api.groq.com/openai/v1"),
        variable="GROQ_API_KEY",
        docs="https://console.groq.com/docs",
        quirks=_NEW_LIMIT,
        deviations=("reasoning", "usage_on_finish", "whole_tool_calls"),
    ),
    Preset(
        name="mistral",
        title="Mistral AI",
        bases=_chat("https://api.mistral.ai/v1"),
        variable="MISTRAL_API_KEY",
        docs="https://docs.mistral.ai",
        quirks={"developer_role": False},
        deviations=("usage_on_finish", "whole_tool_calls", "short_tool_ids"),
    ),
    Preset(
        name="openrouter",
        title="OpenRouter",
        bases=_openai("https://openrouter.ai/api/v1"),
        variable="OPENROUTER_API_KEY",
        docs="https://openrouter.ai/docs",
        deviations=("reasoning", "stream_comments"),
    ),
    Preset(
        name="together",
        title="Together AI",
        bases=_chat("https://api.together.xyz/v1"),
        variable="TOGETHER_API_KEY",
        docs="https://docs.together.ai",
        quirks={"developer_role": False},
        deviations=("usage_on_finish", "reasoning"),
    ),
    Preset(
        name="fireworks",
        title="Fireworks AI",
        bases=_chat("https://api.fireworks.ai/inference/v1"),
        variable="FIREWORKS_API_KEY",
        docs="https://docs.fireworks.ai",
        deviations=("reasoning_content", "usage_on_finish"),
    ),
    Preset(
        name="cerebras",
        title="Cerebras",
        bases=_chat("https://api.cerebras.ai/v1"),
        variable="CEREBRAS_API_KEY",
        docs="https://inference-docs.cerebras.ai",
        quirks=_NEW_LIMIT,
        deviations=("reasoning", "usage_on_finish"),
    ),
    Preset(
        name="deepinfra",
        title="DeepInfra",
        bases=_chat("https://api.deepinfra.com/v1/openai"),
        variable="DEEPINFRA_API_KEY",
        docs="https://deepinfra.com/docs",
        deviations=("reasoning_content",),
    ),
    Preset(
        name="sambanova",
        title="SambaNova",
        bases=_chat("https://api.sambanova.ai/v1"),
        variable="SAMBANOVA_API_KEY",
        docs="https://docs.sambanova.ai",
        quirks={**_NO_SCHEMA, "developer_role": False},
    ),
    Preset(
        name="moonshot",
        title="Moonshot AI (Kimi)",
        bases=_both("https://api.moonshot.ai/v1", "https://api.moonshot.ai/anthropic/v1"),
        variable="MOONSHOT_API_KEY",
        docs="https://platform.moonshot.ai/docs",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "usage_on_finish"),
    ),
    Preset(
        name="moonshot-cn",
        title="Moonshot AI (Kimi), China",
        bases=_both("https://api.moonshot.cn/v1", "https://api.moonshot.cn/anthropic/v1"),
        variable="MOONSHOT_API_KEY",
        docs="https://platform.moonshot.cn/docs",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "usage_on_finish"),
    ),
    Preset(
        name="zai",
        title="Z.ai (GLM)",
        bases=_both("https://api.z.ai/api/paas/v4", "https://api.z.ai/api/anthropic/v1"),
        variable="ZAI_API_KEY",
        docs="https://docs.z.ai",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "usage_on_finish"),
    ),
    Preset(
        name="zhipu",
        title="Zhipu AI (GLM), China",
        bases=_both("https://open.bigmodel.cn/api/paas/v4", "https://open.bigmodel.cn/api/anthropic/v1"),
        variable="ZHIPUAI_API_KEY",
        docs="https://docs.bigmodel.cn",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "usage_on_finish"),
    ),
    Preset(
        name="qwen",
        title="Alibaba Model Studio (Qwen)",
        bases=_chat("https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
        variable="DASHSCOPE_API_KEY",
        docs="https://www.alibabacloud.com/help/en/model-studio",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "empty_tool_ids"),
    ),
    Preset(
        name="qwen-cn",
        title="Alibaba Model Studio (Qwen), China",
        bases=_chat("https://dashscope.aliyuncs.com/compatible-mode/v1"),
        variable="DASHSCOPE_API_KEY",
        docs="https://help.aliyun.com/zh/model-studio",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "empty_tool_ids"),
    ),
    Preset(
        name="minimax",
        title="MiniMax",
        bases=_both("https://api.minimax.io/v1", "https://api.minimax.io/anthropic/v1"),
        variable="MINIMAX_API_KEY",
        docs="https://platform.minimax.io/docs",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_in_text", "no_list"),
    ),
    Preset(
        name="volcengine",
        title="Volcengine Ark (Doubao)",
        bases=_openai("https://ark.cn-beijing.volces.com/api/v3"),
        variable="ARK_API_KEY",
        docs="https://www.volcengine.com/docs/82379",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content",),
    ),
    Preset(
        name="siliconflow",
        title="SiliconFlow",
        bases=_chat("https://api.siliconflow.com/v1"),
        variable="SILICONFLOW_API_KEY",
        docs="https://docs.siliconflow.com",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "usage_in_every_chunk", "empty_tool_ids"),
    ),
    Preset(
        name="siliconflow-cn",
        title="SiliconFlow, China",
        bases=_chat("https://api.siliconflow.cn/v1"),
        variable="SILICONFLOW_API_KEY",
        docs="https://docs.siliconflow.cn",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "usage_in_every_chunk", "empty_tool_ids"),
    ),
    Preset(
        name="nvidia",
        title="NVIDIA NIM",
        bases=_chat("https://integrate.api.nvidia.com/v1"),
        variable="NVIDIA_API_KEY",
        docs="https://docs.api.nvidia.com/nim",
        quirks={**_NO_SCHEMA, "developer_role": False},
        deviations=("reasoning_content", "no_usage_in_stream"),
    ),
    Preset(
        name="perplexity",
        title="Perplexity",
        bases=_chat("https://api.perplexity.ai"),
        variable="PERPLEXITY_API_KEY",
        docs="https://docs.perplexity.ai",
        quirks={"developer_role": False},
        deviations=("usage_in_every_chunk", "no_list", "reasoning_in_text"),
    ),
    Preset(
        name="cohere",
        title="Cohere",
        bases=_chat("https://api.cohere.ai/compatibility/v1"),
        variable="COHERE_API_KEY",
        docs="https://docs.cohere.com/docs/compatibility-api",
        deviations=("list_elsewhere",),
    ),
    Preset(
        name="huggingface",
        title="Hugging Face router",
        bases=_openai("https://router.huggingface.co/v1"),
        variable="HF_TOKEN",
        docs="https://huggingface.co/docs/inference-providers",
        quirks={"developer_role": False},
        deviations=("no_usage_in_stream",),
    ),
    Preset(
        name="github",
        title="GitHub Models",
        bases=_chat("https://models.github.ai/inference"),
        variable="GITHUB_TOKEN",
        docs="https://docs.github.com/rest/models",
        deviations=("list_elsewhere",),
    ),
    Preset(
        name="ollama",
        title="Ollama",
        bases={
            "openai_chat": "http://127.0.0.1:11434/v1",
            "openai_responses": "http://127.0.0.1:11434/v1",
            "anthropic": "http://127.0.0.1:11434/v1",
        },
        docs="https://docs.ollama.com/openai",
        local=True,
        quirks={"developer_role": False},
        deviations=("reasoning", "whole_tool_calls", "tool_index_missing"),
    ),
    Preset(
        name="vllm",
        title="vLLM",
        bases={
            "openai_chat": "http://127.0.0.1:8000/v1",
            "openai_responses": "http://127.0.0.1:8000/v1",
            "anthropic": "http://127.0.0.1:8000/v1",
        },
        docs="https://docs.vllm.ai",
        local=True,
        quirks={"developer_role": False},
        deviations=("reasoning_content", "reasoning"),
    ),
    Preset(
        name="sglang",
        title="SGLang",
        bases=_chat("http://127.0.0.1:30000/v1"),
        docs="https://docs.sglang.ai",
        local=True,
        quirks={"developer_role": False},
        deviations=("reasoning_content",),
    ),
    Preset(
        name="lmstudio",
        title="LM Studio",
        bases=_openai("http://127.0.0.1:1234/v1"),
        docs="https://lmstudio.ai/docs",
        local=True,
        quirks={"developer_role": False},
        deviations=("reasoning_content",),
    ),
    Preset(
        name="llamacpp",
        title="llama.cpp server",
        bases=_chat("http://127.0.0.1:8080/v1"),
        docs="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        local=True,
        quirks={"developer_role": False},
        deviations=("reasoning_content",),
    ),
    Preset(
        name="localai",
        title="LocalAI",
        bases=_chat("http://127.0.0.1:8080/v1"),
        docs="https://localai.io",
        local=True,
        quirks={"developer_role": False},
        deviations=("usage_in_every_chunk",),
    ),
    Preset(
        name="sandbox",
        title="The built-in sandbox",
        bases={
            "openai_chat": "sandbox:",
            "openai_responses": "sandbox:",
            "anthropic": "sandbox:",
            "gemini": "sandbox:",
        },
        local=True,
    ),
)

_PLATFORM_QUIRKS: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("azure", "openai_chat"): _NEW_LIMIT,
    ("bedrock", "anthropic"): {"fetches_urls": False},
    ("vertex", "anthropic"): {"fetches_urls": False},
}

PRESETS: Final[dict[str, Preset]] = {row.name: row for row in _ROWS}
"""Every preset by its name."""


def preset_of(channel: Channel) -> Preset | None:
    """The preset a channel was made from, where this version knows it."""
    name = channel.options.get(OPTION)
    return PRESETS.get(name) if isinstance(name, str) else None


def quirks_of(channel: Channel) -> dict[str, Any]:
    """The quirks of a channel's platform and preset; a preset's hold for its default dialect only."""
    platform = channel.options.get("platform")
    found = dict(_PLATFORM_QUIRKS.get((platform, channel.dialect), {})) if isinstance(platform, str) else {}
    preset = preset_of(channel)
    if preset is not None and preset.dialect == channel.dialect:
        found.update(preset.quirks)
    return found
