"""The service: routes, loads and swaps adapter versions inside vLLM's own API server.

Imports `adapters/` and never `training/`. Only `service.engine.vllm_engine` imports vLLM.
"""
