"""A fine-tuning script as OpenAI's cookbook writes them; nothing in it is about Wardrobe.

Run: OPENAI_BASE_URL=… OPENAI_API_KEY=… python written_for_openai.py MODEL TRAIN.jsonl VALID.jsonl
"""

import json
import sys
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI()
model, training_path, validation_path = sys.argv[1:]


def upload_file(file_name: str) -> str:
    with Path(file_name).open("rb") as file_fd:
        response = client.files.create(file=file_fd, purpose="fine-tune")
    return client.files.wait_for_processing(response.id).id


training_file_id = upload_file(training_path)
validation_file_id = upload_file(validation_path)

response = client.fine_tuning.jobs.create(
    training_file=training_file_id,
    validation_file=validation_file_id,
    model=model,
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}},
    metadata={"project": "ticket-router"},
)
job_id = response.id

while True:
    response = client.fine_tuning.jobs.retrieve(job_id)
    if response.status in ("succeeded", "failed", "cancelled"):
        break
    time.sleep(1)

events = client.fine_tuning.jobs.list_events(job_id, limit=100).data
for event in reversed(events):
    print(event.message, file=sys.stderr)
fine_tuned_model = response.fine_tuned_model
if response.status != "succeeded" or fine_tuned_model is None:
    raise SystemExit(f"{response.status}: {response.error}")

checkpoints = client.fine_tuning.jobs.checkpoints.list(job_id).data
metrics = client.files.content(response.result_files[0]).text

with Path(validation_path).open() as lines:
    messages = json.loads(next(lines))["messages"]
completion = client.chat.completions.create(
    model=fine_tuned_model, messages=messages[:-1], temperature=0, max_tokens=50
)
print(
    json.dumps(
        {
            "job": job_id,
            "model": client.models.retrieve(fine_tuned_model).id,
            "checkpoints": len(checkpoints),
            "metrics": metrics.splitlines()[0],
            "answer": completion.choices[0].message.content,
            "trained_tokens": response.trained_tokens,
            "listed": [job.id for job in client.fine_tuning.jobs.list(limit=10)],
        }
    )
)
