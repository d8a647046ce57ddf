"""Training of stacks under Lightning: rows, module, callbacks, fit."""
