"""The sections of a report: each makes HTML of a training run."""
