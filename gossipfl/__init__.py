"""gossipfl: the engine of decentralized learning and all that it computes.

No sockets, clock, disk, asyncio or global randomness in here: `node` and `topology` bring those.
"""

__version__ = "0.1.0"
