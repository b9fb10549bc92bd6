"""The inference engine: the port the service needs, and vLLM behind it."""
