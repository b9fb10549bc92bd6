"""The middleware in front of vLLM's routes: a request before and after the engine."""
