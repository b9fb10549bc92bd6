"""`python -m training.job --job ftjob-… --fence 3`, with WARDROBE_* settings."""

import sys

from training.job.job_process import main
from training.job.pipeline import run_job

sys.exit(main(run_job))
