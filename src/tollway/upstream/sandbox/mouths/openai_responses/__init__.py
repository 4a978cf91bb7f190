"""OpenAI Responses, as an upstream speaks it: items in, the full ladder of events out."""
