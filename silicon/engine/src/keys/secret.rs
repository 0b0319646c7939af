//! Secret keys: their value, which lengths their type allows.

use std::sync::Arc;

use cryptoki_sys::*;

use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::lc::aes::AesKey;
use crate::lc::cmac::CmacKey;
use crate::lc::digest::Hash;
use crate::lc::gcm::AesGcm;
use crate::lc::hmac::HmacKey;
use crate::lc::xts::{self, XtsKey};
use crate::lc::{self, Secret};
use crate::mechanisms::Made;

use super::Key;
use super::prepared::Prepared;

/// Longest generic secret in bytes.
pub const SECRET_MAX: usize = 4096;

/// A secret key, with what mechanisms precompute from it.
#[derive(Debug)]
pub struct SecretKey {
    kind: CK_KEY_TYPE,
    value: Secret,
    prepared: Prepared,
}

impl SecretKey {
    /// The key of this CKA_KEY_TYPE with this value.
    pub fn new(kind: CK_KEY_TYPE, value: Secret) -> Self {
        Self {
            kind,
            value,
            prepared: Prepared::default(),
        }
    }

    /// CKA_KEY_TYPE.
    pub fn kind(&self) -> CK_KEY_TYPE {
        self.kind
    }

    /// The value, for mechanisms.
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// The expanded AES key.
    pub fn aes(&self) -> Result<&Arc<AesKey>, lc::Error> {
        self.prepared.aes(&self.value)
    }

    /// The expanded AES-XTS key.
    pub fn xts(&self) -> Result<&Arc<XtsKey>, lc::Error> {
        self.prepared.xts(&self.value)
    }

    /// The AES key as GCM uses it.
    pub fn gcm(&self) -> Result<&AesGcm, lc::Error> {
        self.prepared.gcm(&self.value)
    }

    /// The AES key as CMAC uses it.
    pub fn cmac(&self) -> Result<&CmacKey, lc::Error> {
        self.prepared.cmac(&self.value)
    }

    /// Uses the key as HMAC with this hash has absorbed it.
    pub fn with_hmac<T>(
        &self,
        hash: Hash,
        work: impl FnOnce(&HmacKey) -> Result<T, lc::Error>,
    ) -> Result<T, lc::Error> {
        self.prepared.with_hmac(&self.value, hash, work)
    }

    /// A number that this key has not given before; `first` is where it begins.
    pub fn next_nonce<E>(&self, first: impl FnOnce() -> Result<u64, E>) -> Result<u64, E> {
        self.prepared.next_nonce(first)
    }
}

/// Whether a key of this type may have this many bytes.
pub fn allows_length(kind: CK_KEY_TYPE, length: usize) -> bool {
    match kind {
        CKK_AES => matches!(length, 16 | 24 | 32),
        CKK_AES_XTS => length == xts::KEY,
        _ => (1..=SECRET_MAX).contains(&length),
    }
}

/// Whether this is a type of secret key that the vault has.
pub fn is_known(kind: CK_KEY_TYPE) -> bool {
    matches!(
        kind,
        CKK_GENERIC_SECRET
            | CKK_AES
            | CKK_AES_XTS
            | CKK_HKDF
            | CKK_SHA_1_HMAC
            | CKK_SHA224_HMAC
            | CKK_SHA256_HMAC
            | CKK_SHA384_HMAC
            | CKK_SHA512_HMAC
            | CKK_SHA512_224_HMAC
            | CKK_SHA512_256_HMAC
            | CKK_SHA3_224_HMAC
            | CKK_SHA3_256_HMAC
            | CKK_SHA3_384_HMAC
            | CKK_SHA3_512_HMAC
    )
}

/// A secret key of this type and value, with CKA_KEY_TYPE and CKA_VALUE_LEN.
pub fn made(kind: CK_KEY_TYPE, value: Secret) -> Result<Made, Failure> {
    if !is_known(kind) {
        return Err(CKR_TEMPLATE_INCONSISTENT.into());
    }
    if !allows_length(kind, value.len()) {
        return Err(CKR_KEY_SIZE_RANGE.into());
    }
    let mut attributes = Attributes::new();
    attributes.set_number(CKA_KEY_TYPE, kind);
    attributes.set_number(CKA_VALUE_LEN, value.len() as u64);
    Ok(Made {
        key: Key::Secret(SecretKey::new(kind, value)),
        attributes,
    })
}

/// The key that a derivation's bytes make: as long as CKA_VALUE_LEN says, or as the type fixes it,
/// or as there are bytes. `truncate` says which end is dropped where there are too many: the
/// leading bytes stay.
pub fn from_derived(
    kind: CK_KEY_TYPE,
    template: &Attributes,
    bytes: &Secret,
) -> Result<Made, Failure> {
    let wanted = match template.number(CKA_VALUE_LEN)? {
        Some(length) => usize::try_from(length).map_err(|_| Failure::new(CKR_KEY_SIZE_RANGE))?,
        None if kind == CKK_AES => [32, 24, 16]
            .into_iter()
            .find(|n| *n <= bytes.len())
            .unwrap_or(0),
        None => bytes.len(),
    };
    let value = bytes
        .expose()
        .get(..wanted)
        .ok_or(Failure::new(CKR_KEY_SIZE_RANGE))?;
    made(kind, Secret::copy(value))
}
