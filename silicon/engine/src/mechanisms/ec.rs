//! ECDSA and key pairs on the NIST curves (PKCS#11 3.2, section 6.3).

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::*;

use super::hashed::{DigestSigner, Hashing, Scheme};
use super::pairs::{Pair, PairGeneration};
use super::{Environment, Info, Mechanism, secret, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::{Key, curve_of};
use crate::lc::digest::{DIGEST_MAX, Hash};
use crate::lc::{Input, Output, ec};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &PairGeneration {
        kind: CKM_EC_KEY_PAIR_GEN,
        sizes: SIZES,
        flags: CURVES,
        make: generate,
    },
    &Ecdsa,
    &Hashing::new(CKM_ECDSA_SHA1, Hash::Sha1, Signer),
    &Hashing::new(CKM_ECDSA_SHA224, Hash::Sha224, Signer),
    &Hashing::new(CKM_ECDSA_SHA256, Hash::Sha256, Signer),
    &Hashing::new(CKM_ECDSA_SHA384, Hash::Sha384, Signer),
    &Hashing::new(CKM_ECDSA_SHA512, Hash::Sha512, Signer),
    &Hashing::new(CKM_ECDSA_SHA3_224, Hash::Sha3_224, Signer),
    &Hashing::new(CKM_ECDSA_SHA3_256, Hash::Sha3_256, Signer),
    &Hashing::new(CKM_ECDSA_SHA3_384, Hash::Sha3_384, Signer),
    &Hashing::new(CKM_ECDSA_SHA3_512, Hash::Sha3_512, Signer),
];

/// Smallest and largest field in bits.
const SIZES: (u32, u32) = (256, 521);
const CURVES: u64 = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS | CKF_EC_COMPRESS;

fn generate(_: &dyn Environment, template: &Attributes) -> Result<Pair, Failure> {
    let curve = curve_of(template)?;
    let private = ec::PrivateKey::generate(curve)?;
    let public = ec::PublicKey::from_point(curve, &private.public_point()?)?;
    Ok((
        Key::EcPublic(public).made()?,
        Key::EcPrivate(private).made()?,
    ))
}

/// What signs and verifies digests on a curve.
#[derive(Clone, Copy)]
struct Signer;

impl DigestSigner for Signer {
    fn signature_length(key: &Key) -> Result<usize, Failure> {
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
    secret::none(parameters)?;
    match (usage, key) {
        (Usage::Sign, Some(Key::EcPrivate(_))) | (Usage::Verify, Some(Key::EcPublic(_))) => Ok(()),
        (Usage::Sign | Usage::Verify, _) => Err(wrong_key()),
        _ => Err(CKR_MECHANISM_INVALID.into()),
    }
}

fn info() -> Info {
    Info {
        min: SIZES.0,
        max: SIZES.1,
        flags: CKF_SIGN | CKF_VERIFY | CURVES,
    }
}

/// The mechanisms that hash the message themselves.
impl Scheme for Signer {
    type Signer = Self;

    fn info(&self) -> Info {
        info()
    }

    fn check(
        &self,
        _: Hash,
        usage: Usage,
        key: Option<&Key>,
        parameters: &[u8],
    ) -> Result<(), Failure> {
        check(usage, key, parameters)
    }

    fn signer(&self, _: Hash, _: &[u8]) -> Result<Self, Failure> {
        Ok(*self)
    }
}

/// CKM_ECDSA: over a digest that the caller made.
struct Ecdsa;

impl Mechanism for Ecdsa {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_ECDSA
    }

    fn info(&self) -> Info {
        info()
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
        let length = Signer::signature_length(key.ok_or_else(wrong_key)?)?;
        Ok((length, true))
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
