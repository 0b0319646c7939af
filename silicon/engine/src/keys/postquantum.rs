//! CKK_ML_DSA and CKK_ML_KEM (PKCS#11 3.2, sections 6.67 and 6.68). The vault stores the seed.
//!
//! Private keys come in by CKA_SEED; an expanded key without its seed is refused as incomplete.

use cryptoki_sys::*;

use super::Key;
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::lc::{mldsa, mlkem};

/// The ML-DSA parameter set that CKA_PARAMETER_SET names.
pub fn mldsa_level(attributes: &Attributes) -> Result<mldsa::Level, Failure> {
    match attributes.number(CKA_PARAMETER_SET)? {
        Some(CKP_ML_DSA_44) => Ok(mldsa::Level::MlDsa44),
        Some(CKP_ML_DSA_65) => Ok(mldsa::Level::MlDsa65),
        Some(CKP_ML_DSA_87) => Ok(mldsa::Level::MlDsa87),
        Some(_) => Err(CKR_PARAMETER_SET_NOT_SUPPORTED.into()),
        None => Err(CKR_TEMPLATE_INCOMPLETE.into()),
    }
}

/// The ML-KEM parameter set that CKA_PARAMETER_SET names.
pub fn mlkem_level(attributes: &Attributes) -> Result<mlkem::Level, Failure> {
    match attributes.number(CKA_PARAMETER_SET)? {
        Some(CKP_ML_KEM_512) => Ok(mlkem::Level::MlKem512),
        Some(CKP_ML_KEM_768) => Ok(mlkem::Level::MlKem768),
        Some(CKP_ML_KEM_1024) => Ok(mlkem::Level::MlKem1024),
        Some(_) => Err(CKR_PARAMETER_SET_NOT_SUPPORTED.into()),
        None => Err(CKR_TEMPLATE_INCOMPLETE.into()),
    }
}

fn value(attributes: &Attributes) -> Result<&[u8], Failure> {
    attributes
        .get(CKA_VALUE)
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))
}

pub(super) fn mldsa_private(attributes: &Attributes, seed: &[u8]) -> Result<Key, Failure> {
    Ok(Key::MlDsaPrivate(mldsa::PrivateKey::from_seed(
        mldsa_level(attributes)?,
        seed,
    )?))
}

pub(super) fn mldsa_public(attributes: &Attributes) -> Result<Key, Failure> {
    Ok(Key::MlDsaPublic(mldsa::PublicKey::new(
        mldsa_level(attributes)?,
        value(attributes)?,
    )?))
}

pub(super) fn mlkem_private(attributes: &Attributes, seed: &[u8]) -> Result<Key, Failure> {
    Ok(Key::MlKemPrivate(mlkem::PrivateKey::from_seed(
        mlkem_level(attributes)?,
        seed,
    )?))
}

pub(super) fn mlkem_public(attributes: &Attributes) -> Result<Key, Failure> {
    Ok(Key::MlKemPublic(mlkem::PublicKey::new(
        mlkem_level(attributes)?,
        value(attributes)?,
    )?))
}

pub(super) fn mldsa_attributes(level: mldsa::Level, public: Option<&[u8]>) -> Attributes {
    let set = match level {
        mldsa::Level::MlDsa44 => CKP_ML_DSA_44,
        mldsa::Level::MlDsa65 => CKP_ML_DSA_65,
        mldsa::Level::MlDsa87 => CKP_ML_DSA_87,
    };
    attributes(CKK_ML_DSA, set, public)
}

pub(super) fn mlkem_attributes(level: mlkem::Level, public: Option<&[u8]>) -> Attributes {
    let set = match level {
        mlkem::Level::MlKem512 => CKP_ML_KEM_512,
        mlkem::Level::MlKem768 => CKP_ML_KEM_768,
        mlkem::Level::MlKem1024 => CKP_ML_KEM_1024,
    };
    attributes(CKK_ML_KEM, set, public)
}

fn attributes(key_type: CK_KEY_TYPE, set: u64, public: Option<&[u8]>) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.set_number(CKA_KEY_TYPE, key_type);
    attributes.set_number(CKA_PARAMETER_SET, set);
    if let Some(public) = public {
        attributes.set(CKA_VALUE, public);
    }
    attributes
}
