//! Deterministic ML-DSA-87 (FIPS 204) from a 32-byte seed: what Python's library lacks.
//!
//! Rust and not Python: the seed of a running host's key never leaves silicon, and no maintained
//! Python library signs deterministically.

use ml_dsa::signature::Keypair;
use ml_dsa::{B32, ExpandedSigningKey, MlDsa87, Signature, SigningKey, VerifyingKey};

/// The seed (xi of FIPS 204) in bytes.
pub const MLDSA87_SEED_SIZE: usize = 32;
/// The encoded public key in bytes.
pub const MLDSA87_PUBLIC_KEY_SIZE: usize = 2592;
/// The encoded signature in bytes.
pub const MLDSA87_SIGNATURE_SIZE: usize = 4627;

/// Expands a seed into a key pair. On the heap: it holds some 60 KiB of polynomials.
pub(super) fn expand(seed: &[u8; MLDSA87_SEED_SIZE]) -> Box<SigningKey<MlDsa87>> {
    Box::new(SigningKey::from_seed(&B32::from(*seed)))
}

pub(super) fn public_key(key: &SigningKey<MlDsa87>) -> Vec<u8> {
    key.verifying_key().encode().to_vec()
}

pub(super) fn sign(
    key: &ExpandedSigningKey<MlDsa87>,
    message: &[u8],
    context: &[u8],
) -> Option<Vec<u8>> {
    let signature = key.sign_deterministic(message, context).ok()?;
    Some(signature.encode().to_vec())
}

pub(super) fn sign_mu(key: &ExpandedSigningKey<MlDsa87>, mu: &[u8; 64]) -> Vec<u8> {
    key.sign_mu_deterministic(&(*mu).into()).encode().to_vec()
}

/// The public key (2592 bytes) of a seed.
#[must_use]
pub fn mldsa87_public_key(seed: &[u8; MLDSA87_SEED_SIZE]) -> Vec<u8> {
    public_key(&expand(seed))
}

/// A deterministic signature (4627 bytes) over a message; `None` if the context is longer than
/// 255 bytes.
#[must_use]
pub fn mldsa87_sign(
    seed: &[u8; MLDSA87_SEED_SIZE],
    message: &[u8],
    context: &[u8],
) -> Option<Vec<u8>> {
    sign(expand(seed).expanded_key(), message, context)
}

/// A deterministic signature over an external mu (64 bytes).
#[must_use]
pub fn mldsa87_sign_mu(seed: &[u8; MLDSA87_SEED_SIZE], mu: &[u8; 64]) -> Vec<u8> {
    sign_mu(expand(seed).expanded_key(), mu)
}

fn parse(public: &[u8], signature: &[u8]) -> Option<(VerifyingKey<MlDsa87>, Signature<MlDsa87>)> {
    let key = VerifyingKey::<MlDsa87>::decode(public.try_into().ok()?);
    Some((key, Signature::<MlDsa87>::try_from(signature).ok()?))
}

/// Whether a signature over a message and context is good; wrong sizes are not.
#[must_use]
pub fn mldsa87_verify(public: &[u8], message: &[u8], context: &[u8], signature: &[u8]) -> bool {
    parse(public, signature)
        .is_some_and(|(key, signature)| key.verify_with_context(message, context, &signature))
}

/// Whether a signature over an external mu is good; wrong sizes are not.
#[must_use]
pub fn mldsa87_verify_mu(public: &[u8], mu: &[u8; 64], signature: &[u8]) -> bool {
    parse(public, signature)
        .is_some_and(|(key, signature)| key.verify_mu(&(*mu).into(), &signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_deterministically_and_verifies() {
        let seed = [3u8; 32];
        let public = mldsa87_public_key(&seed);
        assert_eq!(public.len(), MLDSA87_PUBLIC_KEY_SIZE);
        let signature = mldsa87_sign(&seed, b"message", b"").unwrap();
        assert_eq!(signature.len(), MLDSA87_SIGNATURE_SIZE);
        assert_eq!(
            Some(&signature),
            mldsa87_sign(&seed, b"message", b"").as_ref()
        );
        assert!(mldsa87_verify(&public, b"message", b"", &signature));
        assert!(!mldsa87_verify(&public, b"massage", b"", &signature));
        assert!(!mldsa87_verify(&public, b"message", b"c", &signature));
        assert!(!mldsa87_verify(&public[1..], b"message", b"", &signature));
        assert!(mldsa87_sign(&seed, b"", &[0; 256]).is_none());
    }

    #[test]
    fn external_mu_round_trip() {
        let seed = [4u8; 32];
        let public = mldsa87_public_key(&seed);
        let signature = mldsa87_sign_mu(&seed, &[9; 64]);
        assert!(mldsa87_verify_mu(&public, &[9; 64], &signature));
        assert!(!mldsa87_verify_mu(&public, &[8; 64], &signature));
    }
}
