"""What is told of requests to whoever watches from outside: one log line, one span. No content."""
