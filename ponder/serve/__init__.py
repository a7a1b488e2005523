"""The product: an OpenAI-compatible API over any engine, with hidden reasoning, and a page to talk to it."""
