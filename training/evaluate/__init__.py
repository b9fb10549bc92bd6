"""What a candidate is measured by: answers through the service, scores, gates."""
