"""What `tollway serve` says on its one screen, and what it says when it will not serve."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from tollway import __version__
from tollway.config import Settings
from tollway.core.billing.money import credits_text

FIRST_MODEL: Final = "sandbox-chat"

_PROVIDERS: Final = {
    "OPENAI_API_KEY": ("openai", "https://api.openai.com/v1", "gpt-5"),
    "OPENROUTER_API_KEY": ("openrouter", "https://openrouter.ai/api/v1", "openrouter/auto"),
    "DEEPSEEK_API_KEY": ("deepseek", "https://api.deepseek.com/v1", "deepseek-chat"),
    "GROQ_API_KEY": ("groq", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
    "MISTRAL_API_KEY": ("mistral", "https://api.mistral.ai/v1", "mistral-large-latest"),
    "XAI_API_KEY": ("xai", "https://api.x.ai/v1", "grok-4"),
    "TOGETHER_API_KEY": ("together", "https://api.together.xyz/v1", "openai/gpt-oss-120b"),
    "GEMINI_API_KEY": (
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-2.5-flash",
    ),
    "ANTHROPIC_API_KEY": ("anthropic", "https://api.anthropic.com/v1", "claude-sonnet-4-5"),
}


class Welcome(Struct, frozen=True, kw_only=True):
    """What there is to say. `key`: the first key, on the first start only. `opening`: micro-credits granted.

    `workers`: processes that serve; `shared`: whether they count limits together.
    """

    base_url: str
    key: str | None
    opening: int
    data: str
    provider_keys: tuple[str, ...]
    workers: int = 1
    shared: bool = False


def screen(welcome: Welcome) -> str:
    """The whole screen, without a last line end."""
    lines = [
        "",
        f"  Tollway {__version__} is ready.",
        "",
        f"  Base URL   {welcome.base_url}/v1",
        f"             {welcome.base_url} for Anthropic's and Google's SDKs",
    ]
    if welcome.workers > 1:
        lines += _workers(welcome)
    if welcome.key is not None:
        lines += [
            f"  API key    {welcome.key}",
            "             shown this once; only a digest of it is stored",
            f"  Credits    {credits_text(welcome.opening)}, granted to start with",
            "",
            "  Try it:",
            "",
            f"    curl {welcome.base_url}/v1/chat/completions \\",
            f"      -H 'Authorization: Bearer {welcome.key}' -H 'Content-Type: application/json' \\",
            f'      -d \'{{"model": "{FIRST_MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\'',
        ]
    else:
        lines.append(f"  Data       {welcome.data}")
        lines.append("  Keys       tollway key list, tollway key create --name NAME")
    offers = [offer for name in sorted(_PROVIDERS) if name in welcome.provider_keys for offer in _offer(name)]
    if offers:
        lines += [
            "",
            "  Provider keys are in the environment. They are not used until you say so:",
            "",
            *offers,
        ]
    return "\n".join([*lines, "", "  Ctrl+C stops it.", ""])


def _workers(welcome: Welcome) -> list[str]:
    if welcome.shared:
        return [f"  Workers    {welcome.workers}, which count limits together through Redis"]
    return [
        f"  Workers    {welcome.workers}, which count limits each for itself: a key may get up to {welcome.workers} times",
        "             what it is allowed. With redis_url they count together.",
    ]


def _offer(variable: str) -> list[str]:
    name, url, model = _PROVIDERS[variable]
    return [
        f"    tollway channel add --name {name} --dialect openai_chat --base-url {url} \\",
        f"      --secret-env {variable} --model {model}",
    ]


def refusal_to_bind(settings: Settings) -> str:
    """Why an address others can reach is not served without an administrator, and what to do."""
    data = f" --data {settings.data}" if not settings.database_url else ""
    return (
        f"tollway: refusing to listen on {settings.host}: others could reach it, and there is no administrator.\n"
        f"Try: tollway admin create --email you@example.com{data}\n"
        f"then: tollway serve --host {settings.host} --port {settings.port}{data}\n"
        f"or serve this machine only: tollway serve --port {settings.port}{data}"
    )
