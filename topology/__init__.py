"""gossipfl on a networkx graph: builders and analysis."""
