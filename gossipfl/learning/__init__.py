"""Everything that learns: what a task is, one local pass, its measures. It needs torch."""
