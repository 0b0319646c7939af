//! Room of the silicon: engine.
