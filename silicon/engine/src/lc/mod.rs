//! AWS-LC behind Rust types: the only room that calls it.
//!
//! Rust and not Python: key bytes live here, and every operation's speed is decided here.
//!
//! Nothing in this room knows PKCS#11. Keys and intermediate secrets are zeroized when dropped.
//! Functions that may run directly on memory that a client can change while they run take `Input`
//! and `Output`; all others take slices of private memory (DESIGN.md, section 6).

pub mod aes;
pub mod cmac;
pub mod der;
pub mod digest;
pub mod ec;
pub mod ed448;
pub mod edwards;
mod edwards448;
pub mod error;
mod evp;
pub mod gcm;
mod hash;
pub mod hmac;
pub mod kdf;
pub mod keywrap;
pub mod memory;
pub mod mldsa;
pub mod mlkem;
pub mod montgomery;
mod number;
mod p192;
pub mod pem;
pub mod pkcs8;
pub mod random;
pub mod rsa;
pub mod secret;
mod seeded;
pub mod xts;

pub use error::Error;
pub use memory::{Input, Output};
pub use secret::Secret;

/// The bytes that a known answer spells.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}
