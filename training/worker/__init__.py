"""The trainer's own process: claims jobs, keeps their leases, runs each in a child process."""
