//! ECDSA and key pairs on the NIST curves (PKCS#11 3.2, section 6.3).

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::*;

use super::hashed::{self, DigestSigner};
use super::{Environment, Info, Made, Mechanism, Stream, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::{Key, curve_of};
use crate::lc::digest::{DIGEST_MAX, Hash};
use crate::lc::{Input, Output, ec};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &KeyPairGeneration,
    &Ecdsa,
    &EcdsaHash {
        kind: CKM_ECDSA_SHA1,
        hash: Hash::Sha1,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA224,
        hash: Hash::Sha224,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA256,
        hash: Hash::Sha256,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA384,
        hash: Hash::Sha384,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA512,
        hash: Hash::Sha512,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA3_224,
        hash: Hash::Sha3_224,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA3_256,
        hash: Hash::Sha3_256,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA3_384,
        hash: Hash::Sha3_384,
    },
    &EcdsaHash {
        kind: CKM_ECDSA_SHA3_512,
        hash: Hash::Sha3_512,
    },
];

const CURVES: u64 = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS | CKF_EC_COMPRESS;

struct KeyPairGeneration;

impl Mechanism for KeyPairGeneration {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_EC_KEY_PAIR_GEN
    }

    fn info(&self) -> Info {
        Info {
            min: 256,
            max: 521,
            flags: CKF_GENERATE_KEY_PAIR | CURVES,
        }
    }

    fn generate_pair(
        &self,
        _: &dyn Environment,
        parameters: &[u8],
        public: &Attributes,
        _: &Attributes,
    ) -> Result<(Made, Made), Failure> {
        if !parameters.is_empty() {
            return Err(CKR_MECHANISM_PARAM_INVALID.into());
        }
        let curve = curve_of(public)?;
        let private = ec::PrivateKey::generate(curve)?;
        let public = ec::PublicKey::from_point(curve, &private.public_point()?)?;
        Ok((
            Key::EcPublic(public).made()?,
            Key::EcPrivate(private).made()?,
        ))
    }
}

/// What signs and verifies digests on a curve.
#[derive(Clone, Copy)]
struct Signer;

impl DigestSigner for Signer {
    fn signature_length(&self, key: &Key) -> Result<usize, Failure> {
        match key {
            Key::EcPrivate(key) => Ok(2 * key.curve().bytes()),
            _ => Err(wrong_key()),
        }
    }

    fn sign_digest(
        &self,
        key: &Key,
        _: Hash,
        digest: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let Key::EcPrivate(key) = key else {
            return Err(wrong_key());
        };
        let mut signature = [0u8; 2 * 66];
        let length = key.sign(digest, &mut signature)?;
        Ok(output.write(signature.get(..length).unwrap_or(&[]))?)
    }

    fn verify_digest(
        &self,
        key: &Key,
        _: Hash,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure> {
        let Key::EcPublic(key) = key else {
            return Err(wrong_key());
        };
        if signature.len() != 2 * key.curve().bytes() {
            return Err(CKR_SIGNATURE_LEN_RANGE.into());
        }
        Ok(key.verify(digest, signature)?)
    }
}

fn check(usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
    if !parameters.is_empty() {
        return Err(CKR_MECHANISM_PARAM_INVALID.into());
    }
    match (usage, key) {
        (Usage::Sign, Some(Key::EcPrivate(_))) | (Usage::Verify, Some(Key::EcPublic(_))) => Ok(()),
        (Usage::Sign | Usage::Verify, _) => Err(wrong_key()),
        _ => Err(CKR_MECHANISM_INVALID.into()),
    }
}

fn output_length(key: Option<&Key>) -> Result<(usize, bool), Failure> {
    Ok((Signer.signature_length(key.ok_or_else(wrong_key)?)?, true))
}

/// CKM_ECDSA: over a digest that the caller made.
struct Ecdsa;

impl Mechanism for Ecdsa {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_ECDSA
    }

    fn info(&self) -> Info {
        Info {
            min: 256,
            max: 521,
            flags: CKF_SIGN | CKF_VERIFY | CURVES,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        check(usage, key, parameters)
    }

    fn output_length(
        &self,
        _: Usage,
        key: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        output_length(key)
    }

    fn sign(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        Signer.sign_digest(
            key,
            Hash::Sha512,
            digest(&mut [0; DIGEST_MAX], input)?,
            output,
        )
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        Signer.verify_digest(
            key,
            Hash::Sha512,
            digest(&mut [0; DIGEST_MAX], input)?,
            signature,
        )
    }
}

/// A private copy of the digest: what is signed must not change while it is signed.
fn digest<'a>(buffer: &'a mut [u8; DIGEST_MAX], input: Input<'_>) -> Result<&'a [u8], Failure> {
    let length = input.len();
    if length > DIGEST_MAX {
        return Err(CKR_DATA_LEN_RANGE.into());
    }
    input.copy_to(buffer);
    buffer.get(..length).ok_or(Failure::new(CKR_DATA_LEN_RANGE))
}

/// CKM_ECDSA_SHA...: hashes the message itself.
struct EcdsaHash {
    kind: CK_MECHANISM_TYPE,
    hash: Hash,
}

impl Mechanism for EcdsaHash {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        Info {
            min: 256,
            max: 521,
            flags: CKF_SIGN | CKF_VERIFY | CURVES,
        }
    }

    fn legacy(&self) -> bool {
        self.hash == Hash::Sha1
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        check(usage, key, parameters)
    }

    fn output_length(
        &self,
        _: Usage,
        key: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        output_length(key)
    }

    fn sign(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        hashed::sign(&Signer, self.hash, key, input, output)
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        hashed::verify(&Signer, self.hash, key, input, signature)
    }

    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        _: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        hashed::begin(Signer, self.hash, usage, key)
    }
}
