//! ECDSA and key pairs on the NIST curves (PKCS#11 3.2, section 6.3).

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKA_EC_PARAMS, CKA_EC_POINT, CKF_EC_F_P, CKF_EC_NAMEDCURVE,
    CKF_EC_UNCOMPRESS, CKF_GENERATE_KEY_PAIR, CKF_SIGN, CKF_VERIFY, CKM_EC_KEY_PAIR_GEN, CKM_ECDSA,
    CKR_DATA_LEN_RANGE, CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID,
    CKR_SIGNATURE_LEN_RANGE,
};

use super::{Environment, Info, Made, Mechanism, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::{Key, curve_of, octet_string};
use crate::lc::{Input, Output, ec};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[&KeyPairGeneration, &Ecdsa];

const CURVES: u64 = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS;
/// The longest digest that is signed: SHA-512's.
const DIGEST_MAX: usize = 64;

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

    fn check(&self, _: Usage, _: Option<&Key>, _: &[u8]) -> Result<(), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
    }

    fn output_length(
        &self,
        _: Usage,
        _: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        Err(CKR_MECHANISM_INVALID.into())
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
        let point = private.public_point()?;
        let mut shared = Attributes::new();
        shared.set(CKA_EC_PARAMS, curve.oid());
        let mut with_point = shared.clone();
        with_point.set(CKA_EC_POINT, &octet_string(&point));
        Ok((
            Made {
                key: Key::EcPublic(ec::PublicKey::from_point(curve, &point)?),
                attributes: with_point,
            },
            Made {
                key: Key::EcPrivate(private),
                attributes: shared,
            },
        ))
    }
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
        if !parameters.is_empty() {
            return Err(CKR_MECHANISM_PARAM_INVALID.into());
        }
        match (usage, key) {
            (Usage::Sign, Some(Key::EcPrivate(_))) | (Usage::Verify, Some(Key::EcPublic(_))) => {
                Ok(())
            }
            (Usage::Sign | Usage::Verify, _) => Err(wrong_key()),
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
            Some(Key::EcPrivate(key)) => Ok((2 * key.curve().bytes(), true)),
            _ => Err(wrong_key()),
        }
    }

    fn sign(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let Key::EcPrivate(key) = key.as_ref() else {
            return Err(wrong_key());
        };
        let mut signature = [0u8; 2 * 66];
        let length = key.sign(digest(&mut [0; DIGEST_MAX], input)?, &mut signature)?;
        output.write(signature.get(..length).unwrap_or(&[]))?;
        Ok(())
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        let Key::EcPublic(key) = key.as_ref() else {
            return Err(wrong_key());
        };
        if signature.len() != 2 * key.curve().bytes() {
            return Err(CKR_SIGNATURE_LEN_RANGE.into());
        }
        Ok(key.verify(digest(&mut [0; DIGEST_MAX], input)?, signature)?)
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
