"""What the tests with the official OpenAI SDK ask, over and over."""

from __future__ import annotations

from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Hello!"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": "About a city", "strict": True, "parameters": CITY},
    }
    for name in ("get_weather", "get_time")
]
FLAT_TOOLS = [{"type": "function", **tool["function"]} for tool in TOOLS]
BOTH = "Use get_weather and get_time for Hanoi."


class Trip(BaseModel):
    city: str
    days: int
