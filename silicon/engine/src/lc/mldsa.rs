//! ML-DSA (FIPS 204): keys from their seeds, hedged signatures with a context, external mu.
//!
//! AWS-LC has no deterministic signing through its public interface: mechanisms that ask for it are
//! refused by name. Pre-hash signatures (HashML-DSA) go through the external mu, which is computed
//! here. Messages are private memory: signing reads them twice.

use super::Error;
use super::digest::{Hash, shake256};
use super::error::failed;
use super::evp::{MdContext, Pkey};
use super::seeded::{self, ParameterSet};
use aws_lc_sys::{
    EVP_DigestSign, EVP_DigestSignInit, EVP_DigestVerify, EVP_DigestVerifyInit, EVP_PKEY_CTX,
    EVP_PKEY_CTX_set_signature_context, EVP_PKEY_pqdsa_new_raw_private_key,
    EVP_PKEY_pqdsa_new_raw_public_key, EVP_PKEY_sign, EVP_PKEY_sign_init, EVP_PKEY_verify,
    EVP_PKEY_verify_init, NID_MLDSA44, NID_MLDSA65, NID_MLDSA87,
};

/// Bytes of a seed (xi).
pub const SEED: usize = 32;
/// Bytes of an external mu.
pub const MU: usize = 64;
/// Longest context in bytes.
pub const CONTEXT_MAX: usize = 255;

/// A parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// ML-DSA-44.
    MlDsa44,
    /// ML-DSA-65.
    MlDsa65,
    /// ML-DSA-87.
    MlDsa87,
}

impl Level {
    /// All of them.
    pub const ALL: [Level; 3] = [Level::MlDsa44, Level::MlDsa65, Level::MlDsa87];

    const fn nid(self) -> i32 {
        match self {
            Self::MlDsa44 => NID_MLDSA44,
            Self::MlDsa65 => NID_MLDSA65,
            Self::MlDsa87 => NID_MLDSA87,
        }
    }

    /// The content of the object identifier (RFC 9881).
    pub(super) const fn oid(self) -> &'static [u8] {
        match self {
            Self::MlDsa44 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11],
            Self::MlDsa65 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12],
            Self::MlDsa87 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x13],
        }
    }

    /// The parameter set of an object identifier's content.
    pub(super) fn of(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.oid() == oid)
    }

    /// Bytes of a public key.
    pub const fn public_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 1312,
            Self::MlDsa65 => 1952,
            Self::MlDsa87 => 2592,
        }
    }

    /// Bytes of a signature.
    pub const fn signature_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
        }
    }

    /// Bytes of an expanded private key.
    pub const fn expanded_bytes(self) -> usize {
        match self {
            Self::MlDsa44 => 2560,
            Self::MlDsa65 => 4032,
            Self::MlDsa87 => 4896,
        }
    }
}

/// A private key with its seed.
pub type PrivateKey = seeded::PrivateKey<Level>;
/// A public key.
pub type PublicKey = seeded::PublicKey<Level>;

impl ParameterSet for Level {
    const SEED: usize = SEED;

    fn oid(self) -> &'static [u8] {
        Level::oid(self)
    }

    fn public_bytes(self) -> usize {
        Level::public_bytes(self)
    }

    fn expanded_bytes(self) -> usize {
        Level::expanded_bytes(self)
    }

    fn private(self, seed: &[u8]) -> Result<Pkey, Error> {
        // SAFETY: the seed comes with its length; the new key is owned.
        Pkey::own(unsafe {
            EVP_PKEY_pqdsa_new_raw_private_key(self.nid(), seed.as_ptr(), seed.len())
        })
    }

    fn public(self, raw: &[u8]) -> Result<Pkey, Error> {
        // SAFETY: the key comes with its length; the new key is owned.
        Pkey::own(unsafe { EVP_PKEY_pqdsa_new_raw_public_key(self.nid(), raw.as_ptr(), raw.len()) })
    }

    /// A signature verifies.
    fn check_pair(private: &PrivateKey, public: &PublicKey) -> Result<(), Error> {
        let mu = [0; MU];
        let signature = private.sign_mu(&mu)?;
        public
            .verify_mu(&mu, &signature)
            .map_err(|_| Error::Internal)
    }
}

impl PrivateKey {
    /// A hedged signature over a message, with a context of at most 255 bytes.
    pub fn sign(&self, message: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; self.level().signature_bytes()];
        let mut length = out.len();
        let state = MdContext::new()?;
        let mut operation: *mut EVP_PKEY_CTX = std::ptr::null_mut();
        // SAFETY: contexts and key live during the calls; every pointer comes with its length.
        unsafe {
            let ready = EVP_DigestSignInit(
                state.as_ptr(),
                &mut operation,
                std::ptr::null(),
                std::ptr::null_mut(),
                self.key.as_ptr(),
            );
            if ready != 1 {
                return failed(Error::Internal);
            }
            set_context(operation, context)?;
            let done = EVP_DigestSign(
                state.as_ptr(),
                out.as_mut_ptr(),
                &mut length,
                message.as_ptr(),
                message.len(),
            );
            if done == 1 && length == out.len() {
                Ok(out)
            } else {
                failed(Error::Internal)
            }
        }
    }

    /// A hedged signature over an external mu (64 bytes).
    pub fn sign_mu(&self, mu: &[u8; MU]) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; self.level().signature_bytes()];
        let mut length = out.len();
        let context = self.key.context()?;
        // SAFETY: as in `sign`.
        let done = unsafe {
            EVP_PKEY_sign_init(context.as_ptr()) == 1
                && EVP_PKEY_sign(
                    context.as_ptr(),
                    out.as_mut_ptr(),
                    &mut length,
                    mu.as_ptr(),
                    MU,
                ) == 1
        };
        if done && length == out.len() {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }
}

/// The message representative of HashML-DSA (FIPS 204, algorithms 4 and 7): SHAKE256 of
/// tr || 1 || |context| || context || OID of the hash || digest, tr = SHAKE256(public key).
pub fn prehash_mu(
    public: &[u8],
    hash: Hash,
    digest: &[u8],
    context: &[u8],
) -> Result<[u8; MU], Error> {
    let length = u8::try_from(context.len()).map_err(|_| Error::Parameter)?;
    if digest.len() != hash.bytes() {
        return Err(Error::DataLength);
    }
    let tr = shake256::<64>(&[public])?;
    shake256::<MU>(&[&tr, &[1, length], context, hash.oid(), digest])
}

impl PublicKey {
    /// Verifies a signature over a message with its context.
    pub fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> Result<(), Error> {
        let state = MdContext::new()?;
        let mut operation: *mut EVP_PKEY_CTX = std::ptr::null_mut();
        // SAFETY: contexts and key live during the calls; every pointer comes with its length.
        unsafe {
            let ready = EVP_DigestVerifyInit(
                state.as_ptr(),
                &mut operation,
                std::ptr::null(),
                std::ptr::null_mut(),
                self.key.as_ptr(),
            );
            if ready != 1 {
                return failed(Error::Internal);
            }
            set_context(operation, context)?;
            let valid = EVP_DigestVerify(
                state.as_ptr(),
                signature.as_ptr(),
                signature.len(),
                message.as_ptr(),
                message.len(),
            );
            if valid == 1 {
                Ok(())
            } else {
                failed(Error::Signature)
            }
        }
    }

    /// Verifies a signature over an external mu.
    pub fn verify_mu(&self, mu: &[u8; MU], signature: &[u8]) -> Result<(), Error> {
        let context = self.key.context()?;
        // SAFETY: as in `verify`.
        let valid = unsafe {
            EVP_PKEY_verify_init(context.as_ptr()) == 1
                && EVP_PKEY_verify(
                    context.as_ptr(),
                    signature.as_ptr(),
                    signature.len(),
                    mu.as_ptr(),
                    MU,
                ) == 1
        };
        if valid {
            Ok(())
        } else {
            failed(Error::Signature)
        }
    }
}

/// # Safety
/// `operation` must be a live context that signs or verifies.
unsafe fn set_context(operation: *mut EVP_PKEY_CTX, context: &[u8]) -> Result<(), Error> {
    if context.len() > CONTEXT_MAX {
        return Err(Error::Parameter);
    }
    if context.is_empty() {
        return Ok(());
    }
    // SAFETY: by this function's contract; the context comes with its length.
    let done =
        unsafe { EVP_PKEY_CTX_set_signature_context(operation, context.as_ptr(), context.len()) };
    if done == 1 {
        Ok(())
    } else {
        failed(Error::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::{Input, digest::digest, hex};

    /// Digests of the public keys of one seed, from another implementation (OpenSSL).
    #[test]
    fn keys_of_a_seed_are_the_known_ones() {
        let seed: Vec<u8> = (0..32).collect();
        for (level, expected) in [
            (
                Level::MlDsa44,
                "9f107644c1084526af3bc8098680b05499a2325a644e388fb4f970e058d19d46",
            ),
            (
                Level::MlDsa65,
                "d666806e11cee19a7c989f7445f90dd419cf4d2d51db8c0fdb4c0f0a542238c9",
            ),
            (
                Level::MlDsa87,
                "91dc389cfaa01470b7f66eee45a4ae9026d154817c754dfe22298b3fa241ffcd",
            ),
        ] {
            let key = PrivateKey::from_seed(level, &seed).unwrap();
            let public = key.public_key().unwrap();
            let value = digest(Hash::Sha256, Input::new(&public)).unwrap();
            assert_eq!(value.as_slice(), hex(expected));
        }
    }

    #[test]
    fn signatures_bind_message_and_context() {
        for level in Level::ALL {
            let key = PrivateKey::generate(level).unwrap();
            let again = PrivateKey::from_seed(level, key.seed().expose()).unwrap();
            assert_eq!(again.public_key().unwrap(), key.public_key().unwrap());
            assert_eq!(key.expanded().unwrap().len(), level.expanded_bytes());
            let public = PublicKey::new(level, &key.public_key().unwrap()).unwrap();
            for context in [&b""[..], b"context", &[7; 255]] {
                let signature = key.sign(b"message", context).unwrap();
                public.verify(b"message", context, &signature).unwrap();
                assert_eq!(
                    public.verify(b"massage", context, &signature),
                    Err(Error::Signature)
                );
                assert_eq!(
                    public.verify(b"message", b"other", &signature),
                    Err(Error::Signature)
                );
            }
            assert_eq!(key.sign(b"message", &[0; 256]), Err(Error::Parameter));
            let signature = key.sign_mu(&[9; 64]).unwrap();
            public.verify_mu(&[9; 64], &signature).unwrap();
            assert!(public.verify_mu(&[8; 64], &signature).is_err());
            assert!(PublicKey::new(level, &[1; 7]).is_err());
            assert!(PrivateKey::from_seed(level, &[1; 31]).is_err());
        }
    }
}
