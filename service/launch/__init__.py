"""From settings to running processes: launcher, supervisor, and vLLM's plugin that starts ours."""
