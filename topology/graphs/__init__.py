"""Graphs a federation can have. One builder per file."""

from topology.graphs.graph import Graph, load_graph, spelled_graph

__all__ = ["Graph", "load_graph", "spelled_graph"]
