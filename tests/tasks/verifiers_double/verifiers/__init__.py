"""A small double of the verifiers package: what ponder/tasks/verifiers_taskset.py uses of it, and nothing else."""
