"""The dialect of Anthropic's Messages API, both of its versions."""
