//! ML-KEM (PKCS#11 3.2, section 6.68): key pairs, encapsulation, decapsulation.

use casemate_transport::message::Usage;
use cryptoki_sys::*;

use super::pairs::{Pair, PairGeneration};
use super::{Environment, Info, Mechanism, secret, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::Key;
use crate::keys::postquantum::mlkem_level;
use crate::lc::Secret;
use crate::lc::mlkem::{self, PrivateKey, PublicKey};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &PairGeneration {
        kind: CKM_ML_KEM_KEY_PAIR_GEN,
        sizes: SIZES,
        flags: 0,
        make: generate,
    },
    &Kem,
];

/// Smallest and largest parameter set.
const SIZES: (u32, u32) = (CKP_ML_KEM_512 as u32, CKP_ML_KEM_1024 as u32);

fn generate(environment: &dyn Environment, template: &Attributes) -> Result<Pair, Failure> {
    let level = mlkem_level(template)?;
    let mut seed = Secret::zeroed(mlkem::SEED);
    environment.random(seed.expose_mut())?;
    let private = PrivateKey::from_new_seed(level, seed.expose())?;
    let public = PublicKey::new(level, &private.public_key()?)?;
    Ok((
        Key::MlKemPublic(public).made()?,
        Key::MlKemPrivate(private).made()?,
    ))
}

struct Kem;

impl Mechanism for Kem {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_ML_KEM
    }

    fn info(&self) -> Info {
        Info {
            min: SIZES.0,
            max: SIZES.1,
            flags: CKF_ENCAPSULATE | CKF_DECAPSULATE,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        secret::none(parameters)?;
        match (usage, key) {
            (Usage::Encapsulate, Some(Key::MlKemPublic(_)))
            | (Usage::Decapsulate, Some(Key::MlKemPrivate(_))) => Ok(()),
            (Usage::Encapsulate | Usage::Decapsulate, _) => Err(wrong_key()),
            _ => Err(CKR_MECHANISM_INVALID.into()),
        }
    }

    fn output_length(
        &self,
        _: Usage,
        key: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        match key {
            Some(Key::MlKemPublic(key)) => Ok((key.level().ciphertext_bytes(), true)),
            _ => Err(wrong_key()),
        }
    }

    fn encapsulate(
        &self,
        _: &dyn Environment,
        key: &Key,
        _: &[u8],
    ) -> Result<(Vec<u8>, Secret), Failure> {
        match key {
            Key::MlKemPublic(key) => Ok(key.encapsulate()?),
            _ => Err(wrong_key()),
        }
    }

    fn decapsulate(&self, key: &Key, _: &[u8], ciphertext: &[u8]) -> Result<Secret, Failure> {
        match key {
            Key::MlKemPrivate(key) => key
                .decapsulate(ciphertext)
                .map_err(|_| CKR_WRAPPED_KEY_LEN_RANGE.into()),
            _ => Err(wrong_key()),
        }
    }
}
