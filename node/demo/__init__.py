"""`gossipfl demo`: four hospitals on one machine, as real nodes, and what it brought them."""
