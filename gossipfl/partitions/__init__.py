"""Partitions: how one data set is dealt to the members of a simulation or test. One per file."""

from gossipfl.partitions.partition import Partition, load_partition

__all__ = ["Partition", "load_partition"]
