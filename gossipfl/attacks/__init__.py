"""Attacks: what a liar sends. Only simulations and federations with `test = true` run them."""

from gossipfl.attacks.attack import Attack, load_attack

__all__ = ["Attack", "load_attack"]
