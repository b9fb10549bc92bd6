"""From uploaded JSONL to checked examples."""
