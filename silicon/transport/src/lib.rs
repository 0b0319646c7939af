//! The way from a program to the module: a Unix socket for the handshake, then shared memory.
//!
//! Rust and not Python: every operation of every client crosses it, in well under a microsecond,
//! and the PKCS#11 library that carries it into foreign processes cannot bring an interpreter.
//!
//! The message layout is written down for other implementers in `docs/transport.md`.
//!
//! - `layout`: where everything stands in the shared memory, and the slot protocol's words.
//! - `message`: operations, request and response headers, attributes.
//! - `fields`: the numbers and counted bytes that messages are made of.
//! - `parameters`: mechanism parameters on the wire.
//! - `attributes`: queries for attributes and their answers.
//! - `info`: what a partition says about itself.
//! - `handshake`: the messages of the socket.
//! - `memory`: sealed shared memory, made by the module and mapped by the client.
//! - `protocol`: the words both sides share: who may write what, and when.
//! - `ring`: one connection's shared memory as each side sees it.
//! - `wait`: spinning within a budget, then sleeping; `clock` and `cpus`: what it needs to know.
//! - `metrics`: the page of figures that a module writes for others.
//! - `client`: a connection as a client uses it; `ring_client` over shared memory, `stream` through
//!   a proxy.

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

pub mod attributes;
#[cfg(not(loom))]
pub mod client;
pub mod clock;
pub mod cpus;
pub mod fields;
pub mod handshake;
pub mod info;
pub mod layout;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod parameters;
pub mod protocol;
pub mod ring;
#[cfg(not(loom))]
pub mod ring_client;
#[cfg(not(loom))]
pub mod stream;
pub mod wait;
