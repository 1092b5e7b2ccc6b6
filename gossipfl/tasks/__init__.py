"""Ready tasks. Adding a module with a `Task` adds a task."""
