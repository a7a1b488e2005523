"""A small double of the verifiers package: what ponder/tasks/verifiers_*.py use of it, and nothing else."""
