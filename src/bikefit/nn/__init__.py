"""Layers, networks, penalties, losses and stacks, in pure torch.

The axis order is ``(M, B, D)``: M members of a stack, B rows of a batch, D features.
"""
