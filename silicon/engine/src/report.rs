//! Key reports: what a partition says of a key that it holds, signed by its identity key.
//!
//! A tagged COSE_Sign1 (RFC 9052), ES384, with the Azure Integrated HSM's payload (notes: key
//! attestation report): a map of 0 version, 1 the public key as a COSE_Key, zero-padded to 525 bytes,
//! 2 its true size, 3 flags, 4 application UUID (here the partition's), 5 report data (128 bytes),
//! 6 VM launch id (16 bytes, zero here). Version 1 is exactly that. Ours is version 2: the key is not
//! padded and may be of any kind, and 7 is added, a map from the name of each measured part of the
//! module to its SHA-384 digest.

use cryptoki_sys::*;

use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::digest::{Hash, digest};
use crate::lc::{Input, Secret, ec, mldsa};
use crate::masking::{self, MaskError};
use crate::object::Object;

/// Bytes of report data: the verifier's nonce, zero-padded.
pub const REPORT_DATA: usize = 128;
/// Bytes of the padded key in a version 1 report.
const KEY_PADDED: usize = 525;
/// Protected header: alg ES384 (-35), content type application/cbor.
const PROTECTED: &[u8] = b"\xa2\x01\x38\x22\x03\x70application/cbor";

/// Which payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReportVersion {
    /// The Azure Integrated HSM's, for RSA and EC keys.
    Azure = 1,
    /// Ours, with firmware measurements.
    Measured = 2,
}

/// A measured part of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Its name, UTF-8.
    pub name: String,
    /// Its SHA-384.
    pub digest: [u8; 48],
}

/// A partition's identity: a P-384 key that follows from its masking secret, so that it is the same
/// after a restart and lives nowhere else.
#[derive(Debug)]
pub struct IdentityKey {
    key: ec::PrivateKey,
}

impl IdentityKey {
    /// The identity of a partition with this masking secret.
    pub fn derive(secret: &Secret) -> Result<Self, MaskError> {
        // A candidate is out of range with a probability of 2^-190; then the next one counts.
        for counter in 0u8..4 {
            let purpose = [&b"casemate identity"[..], &[counter]].concat();
            let scalar = masking::derive_bytes(secret, &purpose, 48)?;
            if let Ok(key) = ec::PrivateKey::from_scalar(ec::Curve::P384, scalar.expose()) {
                return Ok(Self { key });
            }
        }
        Err(MaskError::Internal)
    }

    /// The public point, uncompressed (97 bytes).
    pub fn public_point(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.key.public_point()?)
    }

    /// ECDSA with SHA-384 over a message in private memory: r || s, 96 bytes.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 96], Failure> {
        let mut signature = [0; 96];
        self.key
            .sign(&digest(Hash::Sha384, Input::new(message))?, &mut signature)?;
        Ok(signature)
    }
}

/// The report of a key.
pub fn report(
    identity: &IdentityKey,
    version: ReportVersion,
    partition: &[u8; 16],
    object: &Object,
    key: &Key,
    nonce: &[u8],
    measurements: &[Measurement],
) -> Result<Vec<u8>, Failure> {
    if nonce.len() > REPORT_DATA {
        return Err(CKR_DATA_LEN_RANGE.into());
    }
    let cose_key = match key {
        Key::MlDsaPrivate(key) => akp(key.level(), &key.public_key()?),
        Key::MlDsaPublic(key) => akp(key.level(), &key.raw()?),
        _ => cose_key(&key.implied()?)?,
    };
    let mut payload = Vec::new();
    let entries = if version == ReportVersion::Azure {
        7
    } else {
        8
    };
    head(&mut payload, 5, entries);
    pair(&mut payload, 0, version as u64);
    head(&mut payload, 0, 1);
    if version == ReportVersion::Azure {
        if cose_key.len() > KEY_PADDED || !matches!(object.key_type, CKK_RSA | CKK_EC) {
            return Err(CKR_KEY_TYPE_INCONSISTENT.into());
        }
        let mut padded = cose_key.clone();
        padded.resize(KEY_PADDED, 0);
        bytes(&mut payload, &padded);
    } else {
        bytes(&mut payload, &cose_key);
    }
    pair(&mut payload, 2, cose_key.len() as u64);
    pair(&mut payload, 3, u64::from(flags(object)));
    head(&mut payload, 0, 4);
    bytes(&mut payload, partition);
    head(&mut payload, 0, 5);
    let mut data = [0; REPORT_DATA];
    if let Some(place) = data.get_mut(..nonce.len()) {
        place.copy_from_slice(nonce);
    }
    bytes(&mut payload, &data);
    head(&mut payload, 0, 6);
    bytes(&mut payload, &[0; 16]);
    if version == ReportVersion::Measured {
        head(&mut payload, 0, 7);
        head(&mut payload, 5, measurements.len() as u64);
        for measurement in measurements {
            head(&mut payload, 3, measurement.name.len() as u64);
            payload.extend_from_slice(measurement.name.as_bytes());
            bytes(&mut payload, &measurement.digest);
        }
    }
    let mut signed = Vec::new();
    head(&mut signed, 4, 4);
    head(&mut signed, 3, 10);
    signed.extend_from_slice(b"Signature1");
    bytes(&mut signed, PROTECTED);
    bytes(&mut signed, &[]);
    bytes(&mut signed, &payload);
    let signature = identity.sign(&signed)?;
    let mut out = vec![0xd2, 0x84];
    bytes(&mut out, PROTECTED);
    out.push(0xa0);
    bytes(&mut out, &payload);
    bytes(&mut out, &signature);
    Ok(out)
}

/// Flag bits: 0 imported, 1 session, 2 generated, then encrypt, decrypt, sign, verify, wrap, unwrap,
/// derive.
fn flags(object: &Object) -> u32 {
    let local = object.attributes.is_true(CKA_LOCAL);
    let usages = [
        CKA_ENCRYPT,
        CKA_DECRYPT,
        CKA_SIGN,
        CKA_VERIFY,
        CKA_WRAP,
        CKA_UNWRAP,
        CKA_DERIVE,
    ];
    let mut flags = u32::from(!local) | u32::from(!object.is_token()) << 1 | u32::from(local) << 2;
    for (index, kind) in usages.into_iter().enumerate() {
        flags |= u32::from(object.attributes.is_true(kind)) << (3 + index);
    }
    flags
}

/// The public half as a COSE_Key (RFC 9053; RSA: RFC 8230; ML-DSA: key type AKP).
fn cose_key(attributes: &Attributes) -> Result<Vec<u8>, Failure> {
    let missing = Failure::new(CKR_KEY_TYPE_INCONSISTENT);
    let get = |kind| attributes.get(kind).ok_or(missing);
    let mut out = Vec::new();
    match attributes.number(CKA_KEY_TYPE)?.ok_or(missing)? {
        CKK_RSA => {
            head(&mut out, 5, 3);
            pair(&mut out, 1, 3);
            negative(&mut out, 1);
            bytes(&mut out, get(CKA_MODULUS)?);
            negative(&mut out, 2);
            bytes(&mut out, get(CKA_PUBLIC_EXPONENT)?);
        }
        CKK_EC => {
            let curve = crate::keys::curve_of(attributes)?;
            let point = crate::keys::unwrap_point(get(CKA_EC_POINT)?, 1 + 2 * curve.bytes());
            let (x, y) = point
                .get(1..)
                .and_then(|xy| xy.split_at_checked(curve.bytes()))
                .ok_or(missing)?;
            head(&mut out, 5, 4);
            pair(&mut out, 1, 2);
            negative(&mut out, 1);
            let number = match curve {
                ec::Curve::P256 => 1,
                ec::Curve::P384 => 2,
                ec::Curve::P521 => 3,
                ec::Curve::P192 => return Err(missing),
            };
            head(&mut out, 0, number);
            negative(&mut out, 2);
            bytes(&mut out, x);
            negative(&mut out, 3);
            bytes(&mut out, y);
        }
        kind @ (CKK_EC_EDWARDS | CKK_EC_MONTGOMERY) => {
            head(&mut out, 5, 3);
            pair(&mut out, 1, 1);
            negative(&mut out, 1);
            head(&mut out, 0, if kind == CKK_EC_EDWARDS { 6 } else { 4 });
            negative(&mut out, 2);
            bytes(&mut out, get(CKA_EC_POINT)?);
        }
        _ => return Err(missing),
    }
    Ok(out)
}

/// An ML-DSA key as a COSE_Key: key type AKP (7), alg ML-DSA-44, -65 or -87 (-48 to -50).
fn akp(level: mldsa::Level, public: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, 5, 3);
    pair(&mut out, 1, 7);
    head(&mut out, 0, 3);
    negative(
        &mut out,
        match level {
            mldsa::Level::MlDsa44 => 48,
            mldsa::Level::MlDsa65 => 49,
            mldsa::Level::MlDsa87 => 50,
        },
    );
    negative(&mut out, 1);
    bytes(&mut out, public);
    out
}

/// A CBOR head with the shortest length (RFC 8949, section 4.2.1).
fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, 2, value.len() as u64);
    out.extend_from_slice(value);
}

fn pair(out: &mut Vec<u8>, key: u64, value: u64) {
    head(out, 0, key);
    head(out, 0, value);
}

/// The negative integer -n.
fn negative(out: &mut Vec<u8>, n: u64) {
    head(out, 1, n - 1);
}
