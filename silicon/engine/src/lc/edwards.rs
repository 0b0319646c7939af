//! Ed25519 (RFC 8032): pure, with a context, and pre-hashed.
//!
//! AWS-LC reads the message twice when it signs; a message that changes in between gives the private
//! key away. So messages are private memory here, always.

use super::error::failed;
use super::{Error, Secret, pkcs8};
use aws_lc_sys::{
    ED25519_keypair_from_seed, ED25519_sign, ED25519_verify, ED25519ctx_sign, ED25519ctx_verify,
    ED25519ph_sign, ED25519ph_verify,
};

/// Bytes of a seed: the private key as it is stored and exchanged.
pub const SEED: usize = 32;
/// Bytes of a public key.
pub const PUBLIC: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE: usize = 64;

/// id-Ed25519 (RFC 8410).
pub(super) const OID: &[u8] = &[0x2b, 0x65, 0x70];

/// Which of the three schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// Ed25519.
    Pure,
    /// Ed25519ctx, with a context of 1 to 255 bytes.
    Context(&'a [u8]),
    /// Ed25519ph, with a context of 0 to 255 bytes.
    Prehash(&'a [u8]),
}

impl Scheme<'_> {
    fn check(self) -> Result<(), Error> {
        match self {
            Self::Pure => Ok(()),
            Self::Context(context) if (1..=255).contains(&context.len()) => Ok(()),
            Self::Prehash(context) if context.len() <= 255 => Ok(()),
            _ => Err(Error::Parameter),
        }
    }
}

/// A private key.
#[derive(Debug)]
pub struct PrivateKey {
    /// The seed, then the public key: AWS-LC's form.
    expanded: Secret,
    public: [u8; PUBLIC],
}

impl PrivateKey {
    /// The key of a seed of 32 bytes.
    pub fn from_seed(seed: &[u8]) -> Result<Self, Error> {
        if seed.len() != SEED {
            return Err(Error::Key);
        }
        let mut public = [0; PUBLIC];
        let mut expanded = Secret::zeroed(SEED + PUBLIC);
        // SAFETY: the buffers have the sizes that the function writes and reads.
        unsafe {
            ED25519_keypair_from_seed(
                public.as_mut_ptr(),
                expanded.expose_mut().as_mut_ptr(),
                seed.as_ptr(),
            );
        }
        Ok(Self { expanded, public })
    }

    /// The key of a seed that was just drawn, after the pairwise consistency test that FIPS 140-3
    /// wants of each new key pair: a signature verifies.
    pub fn from_new_seed(seed: &[u8]) -> Result<Self, Error> {
        let key = Self::from_seed(seed)?;
        let signature = key.sign(Scheme::Pure, &[0; SEED])?;
        verify(&key.public, Scheme::Pure, &[0; SEED], &signature).map_err(|_| Error::Internal)?;
        Ok(key)
    }

    /// The seed.
    pub fn seed(&self) -> Secret {
        Secret::copy(self.expanded.expose().get(..SEED).unwrap_or(&[]))
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; PUBLIC] {
        self.public
    }

    /// PKCS #8 (RFC 8410).
    pub fn to_pkcs8(&self) -> Secret {
        pkcs8::private_octets(OID, self.seed().expose())
    }

    /// Signs a message in private memory.
    pub fn sign(&self, scheme: Scheme<'_>, message: &[u8]) -> Result<[u8; SIGNATURE], Error> {
        scheme.check()?;
        let mut out = [0; SIGNATURE];
        let key = self.expanded.expose().as_ptr();
        // SAFETY: every pointer comes with its length; the signature has 64 bytes, the key also.
        let done = unsafe {
            match scheme {
                Scheme::Pure => {
                    ED25519_sign(out.as_mut_ptr(), message.as_ptr(), message.len(), key)
                }
                Scheme::Context(context) => ED25519ctx_sign(
                    out.as_mut_ptr(),
                    message.as_ptr(),
                    message.len(),
                    key,
                    context.as_ptr(),
                    context.len(),
                ),
                Scheme::Prehash(context) => ED25519ph_sign(
                    out.as_mut_ptr(),
                    message.as_ptr(),
                    message.len(),
                    key,
                    context.as_ptr(),
                    context.len(),
                ),
            }
        };
        if done == 1 {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }
}

/// SubjectPublicKeyInfo of a public key (RFC 8410).
pub fn to_spki(public: &[u8; PUBLIC]) -> Vec<u8> {
    pkcs8::public_key_info(OID, &[], public)
}

/// Verifies a signature; the public key has 32 bytes, the signature 64.
pub fn verify(
    public: &[u8],
    scheme: Scheme<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    scheme.check()?;
    if public.len() != PUBLIC || signature.len() != SIGNATURE {
        return Err(Error::Signature);
    }
    let (base, length) = (message.as_ptr(), message.len());
    // SAFETY: every pointer comes with its length; the sizes were checked.
    let valid = unsafe {
        match scheme {
            Scheme::Pure => ED25519_verify(base, length, signature.as_ptr(), public.as_ptr()),
            Scheme::Context(context) => ED25519ctx_verify(
                base,
                length,
                signature.as_ptr(),
                public.as_ptr(),
                context.as_ptr(),
                context.len(),
            ),
            Scheme::Prehash(context) => ED25519ph_verify(
                base,
                length,
                signature.as_ptr(),
                public.as_ptr(),
                context.as_ptr(),
                context.len(),
            ),
        }
    };
    if valid == 1 {
        Ok(())
    } else {
        failed(Error::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;

    /// Sections 7.1 (test 3) and 7.3.
    #[test]
    fn rfc_8032_examples_hold() {
        for (seed, scheme, message, signature) in [
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                Scheme::Pure,
                &[0xaf, 0x82][..],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
            (
                "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
                Scheme::Prehash(b""),
                b"abc",
                "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
            ),
        ] {
            let key = PrivateKey::from_seed(&hex(seed)).unwrap();
            assert_eq!(key.sign(scheme, message).unwrap()[..], hex(signature));
        }
    }

    #[test]
    fn schemes_are_apart() {
        let key = PrivateKey::from_seed(&[5; 32]).unwrap();
        assert_eq!(key.seed().expose(), &[5; 32]);
        let schemes = [
            Scheme::Pure,
            Scheme::Context(b"c"),
            Scheme::Prehash(b""),
            Scheme::Prehash(b"c"),
        ];
        for (i, scheme) in schemes.into_iter().enumerate() {
            let signature = key.sign(scheme, b"message").unwrap();
            for (j, other) in schemes.into_iter().enumerate() {
                assert_eq!(
                    verify(&key.public_key(), other, b"message", &signature).is_ok(),
                    i == j
                );
            }
            assert!(verify(&key.public_key(), scheme, b"massage", &signature).is_err());
        }
        assert_eq!(key.sign(Scheme::Context(b""), b"m"), Err(Error::Parameter));
    }
}
