"""Snippets for any OpenAI client; each runs by itself."""
