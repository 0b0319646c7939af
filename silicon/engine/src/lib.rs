//! The vault: keys, mechanisms, partitions and the queues that serve them.
//!
//! Rust and not Python: key bytes exist only here, wiped and in locked memory, and every operation
//! of every client runs here from queue to answer without an interpreter.

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

pub mod arena;
pub mod attributes;
pub mod cache;
pub mod connection;
pub mod control;
mod dispatch;
pub mod engine;
pub mod failure;
pub mod keys;
pub mod lc;
pub mod ledger;
pub mod masking;
pub mod mechanisms;
pub mod metrics;
pub mod object;
pub mod partition;
pub mod report;
pub mod roles;
pub mod root_of_trust;
pub mod sealing;
pub mod selftest;
pub mod server;
pub mod session;
pub mod template;
