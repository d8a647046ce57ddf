"""How fast a sweep is, and where its time goes: `make bench`, `make bench-scaling`."""
