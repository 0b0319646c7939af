//! AWS-LC behind Rust types: the only room that calls it.
//!
//! Rust and not Python: key bytes live here, and every operation's speed is decided here.
//!
//! Nothing in this room knows PKCS#11. Keys and intermediate secrets are zeroized when dropped.
//! Functions that may run directly on memory that a client can change while they run take `Input`
//! and `Output`; all others take slices of private memory (DESIGN.md, section 6).

pub mod ec;
pub mod error;
pub mod gcm;
pub mod hmac;
pub mod kdf;
pub mod memory;
pub mod random;
pub mod secret;

pub use error::Error;
pub use memory::{Input, Output};
pub use secret::Secret;
