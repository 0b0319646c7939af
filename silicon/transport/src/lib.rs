//! Room of the silicon: transport.
