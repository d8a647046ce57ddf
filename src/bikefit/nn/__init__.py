"""Layers, networks, penalties, losses and stacks of them, in torch alone.

One axis order everywhere: member first, ``(M, B, D)`` with M members of a stack, B rows of a batch
and D features.
"""
