//! HMAC_DRBG with SHA-384 (SP 800-90A, 10.1.2): how a P-384 private key comes from a seed.
//!
//! Rust and not Python: seed and output are private keys.

use super::primitives::hmac;
use crate::lc::digest::Hash;
use crate::lc::{Error, Secret};

/// A generator that gives candidates for a private key, each 48 bytes.
pub struct HmacDrbg {
    key: Secret,
    value: Secret,
}

impl HmacDrbg {
    /// Instantiates from entropy and nonce, without a personalization string.
    pub fn new(entropy: &[u8], nonce: &[u8]) -> Result<Self, Error> {
        let mut drbg = Self {
            key: Secret::zeroed(48),
            value: Secret::copy(&[1; 48]),
        };
        drbg.update(0, &[entropy, nonce])?;
        drbg.update(1, &[entropy, nonce])?;
        Ok(drbg)
    }

    fn update(&mut self, marker: u8, provided: &[&[u8]]) -> Result<(), Error> {
        let marker = [marker];
        let mut parts: Vec<&[u8]> = vec![self.value.expose(), &marker];
        parts.extend_from_slice(provided);
        self.key = hmac(Hash::Sha384, self.key.expose(), &parts)?;
        self.value = hmac(Hash::Sha384, self.key.expose(), &[self.value.expose()])?;
        Ok(())
    }

    /// The next 48 bytes, one generate call each.
    pub fn generate(&mut self) -> Result<Secret, Error> {
        self.value = hmac(Hash::Sha384, self.key.expose(), &[self.value.expose()])?;
        let output = self.value.clone();
        self.update(0, &[])?;
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_stream_and_blocks_differ() {
        let mut one = HmacDrbg::new(&[7; 48], &[0; 48]).unwrap();
        let mut two = HmacDrbg::new(&[7; 48], &[0; 48]).unwrap();
        let first = one.generate().unwrap();
        assert_eq!(first.expose(), two.generate().unwrap().expose());
        assert_ne!(first.expose(), one.generate().unwrap().expose());
    }
}
