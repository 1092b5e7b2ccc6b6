"""gossipfl on a real machine: links, the worker process, the store, the command line."""
