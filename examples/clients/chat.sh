#!/usr/bin/env bash
# Run: OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=... ./chat.sh [adapter]
set -euo pipefail

curl --fail-with-body --silent --show-error "${OPENAI_BASE_URL:?}/chat/completions" \
  --header "Authorization: Bearer ${OPENAI_API_KEY:?}" \
  --header "Content-Type: application/json" \
  --data @- <<JSON
{
  "model": "${1:-support}",
  "messages": [
    {"role": "system", "content": "Customer support."},
    {"role": "user", "content": "How do I download my invoice?"}
  ],
  "temperature": 0
}
JSON
echo
