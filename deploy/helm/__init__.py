"""The Helm chart, and what keeps its README and schema in step with their sources."""
