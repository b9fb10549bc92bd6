"""Runs vLLM's own API tests against this service, and knows which of them fail by design."""
