//! Nothing but tests: what must hold of the workspace as a whole. See `tests/`.
