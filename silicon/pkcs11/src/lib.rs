//! libcasemate_pkcs11.so: PKCS#11 3.2 (with the interfaces of 3.0 and 2.40), a client of the module.
//!
//! Rust and not Python: it is loaded into foreign processes, threads and forks of any language. It
//! links no cryptography, starts no threads, keeps no PIN, and never unwinds into C.
//!
//! The way of a call: `interfaces` (function lists) → `entry` (the C functions, a file a chapter) →
//! `perform`, `parts`, `messages` (how operations run) → `session` (one request there and back) →
//! `link` (the connection to the partition). Beside it: `state` (the process), `registry` (which
//! partitions there are), `mechanism` and `templates` (C structures to the wire), `verdicts` (checks
//! remembered), `flights` (calls of asynchronous sessions that have not come back), `fork` and `lock`
//! (life after a fork).

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::undocumented_unsafe_blocks
    )
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("CK_ULONG travels as eight bytes: only 64-bit systems are supported");

mod entry;
mod flights;
mod fork;
mod interfaces;
mod link;
mod lock;
mod log;
mod mechanism;
mod messages;
mod operation;
mod outcome;
mod output;
mod parts;
mod perform;
mod registry;
mod session;
mod state;
mod templates;
mod verdicts;

pub use interfaces::{C_GetFunctionList, C_GetInterface, C_GetInterfaceList};
