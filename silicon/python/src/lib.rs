//! `casemate._silicon`: the engine for the firmware and the queue client for the API.
//!
//! Rust and not Python: it is the border itself, where Python handles meet key memory.

use pyo3::prelude::*;

#[pymodule]
mod _silicon {}
