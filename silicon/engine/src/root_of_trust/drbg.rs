//! HMAC_DRBG with SHA-384 (SP 800-90A, 10.1.2): how a P-384 private key comes from a seed.
//!
//! Rust and not Python: seed and output are private keys.

use super::primitives::{Hash, hmac};
use zeroize::Zeroizing;

/// A generator that gives candidates for a private key, each 48 bytes.
pub struct HmacDrbg {
    key: Zeroizing<Vec<u8>>,
    value: Zeroizing<Vec<u8>>,
}

impl HmacDrbg {
    /// Instantiates from entropy and nonce, without a personalization string.
    pub fn new(entropy: &[u8], nonce: &[u8]) -> Self {
        let mut drbg = Self {
            key: Zeroizing::new(vec![0; 48]),
            value: Zeroizing::new(vec![1; 48]),
        };
        drbg.update(0, &[entropy, nonce]);
        drbg.update(1, &[entropy, nonce]);
        drbg
    }

    fn update(&mut self, marker: u8, provided: &[&[u8]]) {
        let mut parts: Vec<&[u8]> = vec![&self.value];
        let marker = [marker];
        parts.push(&marker);
        parts.extend_from_slice(provided);
        self.key = hmac(Hash::Sha384, &self.key, &parts);
        self.value = hmac(Hash::Sha384, &self.key, &[&self.value]);
    }

    /// The next 48 bytes, one generate call each.
    pub fn generate(&mut self) -> Zeroizing<Vec<u8>> {
        self.value = hmac(Hash::Sha384, &self.key, &[&self.value]);
        let output = self.value.clone();
        self.update(0, &[]);
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_stream_and_blocks_differ() {
        let mut one = HmacDrbg::new(&[7; 48], &[0; 48]);
        let mut two = HmacDrbg::new(&[7; 48], &[0; 48]);
        let first = one.generate();
        assert_eq!(*first, *two.generate());
        assert_ne!(*first, *one.generate());
    }
}
