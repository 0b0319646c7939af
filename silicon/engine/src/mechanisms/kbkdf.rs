//! SP 800-108 in counter mode (PKCS#11 3.2, section 6.42), with HMAC or AES-CMAC inside.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::{KdfField, Parameters, Sp800Kdf};
use cryptoki_sys::*;

use super::{Derived, Environment, Info, Mechanism, digest, secret};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::secret::SECRET_MAX;
use crate::keys::{self, Key, SecretKey};
use crate::lc::Secret;
use crate::lc::digest::Hash;
use crate::lc::kdf::{self, Field};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[&CounterKdf];

/// Most bytes of all keys of one derivation.
const OUTPUT_MAX: usize = 16 * SECRET_MAX;

struct CounterKdf;

/// The pseudorandom function.
#[derive(Clone, Copy)]
enum Prf {
    Hmac(Hash),
    Cmac,
}

impl Prf {
    fn new(kind: CK_MECHANISM_TYPE) -> Result<Self, Failure> {
        let digest = match kind {
            CKM_AES_CMAC => return Ok(Self::Cmac),
            CKM_SHA_1_HMAC => CKM_SHA_1,
            CKM_SHA224_HMAC => CKM_SHA224,
            CKM_SHA256_HMAC => CKM_SHA256,
            CKM_SHA384_HMAC => CKM_SHA384,
            CKM_SHA512_HMAC => CKM_SHA512,
            CKM_SHA512_224_HMAC => CKM_SHA512_224,
            CKM_SHA512_256_HMAC => CKM_SHA512_256,
            CKM_SHA3_224_HMAC => CKM_SHA3_224,
            CKM_SHA3_256_HMAC => CKM_SHA3_256,
            CKM_SHA3_384_HMAC => CKM_SHA3_384,
            CKM_SHA3_512_HMAC => CKM_SHA3_512,
            _ => return Err(CKR_MECHANISM_PARAM_INVALID.into()),
        };
        digest::hash_of(digest)
            .map(Self::Hmac)
            .ok_or(Failure::internal())
    }

    /// The base key, if it is of a type that the function takes.
    fn key(self, key: Option<&Key>) -> Result<&SecretKey, Failure> {
        match self {
            Self::Cmac => secret::of_type(key, &[CKK_AES]),
            Self::Hmac(hash) => {
                let own = match hash {
                    Hash::Sha1 => CKK_SHA_1_HMAC,
                    Hash::Sha224 => CKK_SHA224_HMAC,
                    Hash::Sha256 => CKK_SHA256_HMAC,
                    Hash::Sha384 => CKK_SHA384_HMAC,
                    Hash::Sha512 => CKK_SHA512_HMAC,
                    Hash::Sha512_224 => CKK_SHA512_224_HMAC,
                    Hash::Sha512_256 => CKK_SHA512_256_HMAC,
                    Hash::Sha3_224 => CKK_SHA3_224_HMAC,
                    Hash::Sha3_256 => CKK_SHA3_256_HMAC,
                    Hash::Sha3_384 => CKK_SHA3_384_HMAC,
                    Hash::Sha3_512 => CKK_SHA3_512_HMAC,
                };
                secret::of_type(key, &[own, CKK_GENERIC_SECRET])
            }
        }
    }

    /// The function with its key.
    fn keyed(self, key: &SecretKey) -> Result<kdf::Prf, Failure> {
        let key = key.value().expose();
        Ok(match self {
            Self::Hmac(hash) => kdf::Prf::hmac(hash, key)?,
            Self::Cmac => kdf::Prf::cmac(key)?,
        })
    }
}

/// The parameters, judged.
fn plan(parameters: &[u8]) -> Result<(Prf, Sp800Kdf<'_>), Failure> {
    let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
    let Parameters::Sp800Kdf(plan) = secret::decode(parameters)? else {
        return Err(invalid);
    };
    let (mut counters, mut lengths) = (0, 0);
    for field in &plan.fields {
        match field {
            KdfField::Iteration { width_bits, .. } => {
                counters += 1;
                if !matches!(width_bits, 8 | 16 | 24 | 32) {
                    return Err(invalid);
                }
            }
            KdfField::Length {
                width_bits, method, ..
            } => {
                lengths += 1;
                let known = matches!(
                    *method,
                    CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS | CK_SP800_108_DKM_LENGTH_SUM_OF_SEGMENTS
                );
                if !known || !(8..=64).contains(width_bits) || width_bits % 8 != 0 {
                    return Err(invalid);
                }
            }
            KdfField::Bytes(_) | KdfField::Key(_) => {}
            // In counter mode the counter is the iteration variable.
            KdfField::Counter { .. } => return Err(invalid),
        }
    }
    if counters != 1 || lengths > 1 || !plan.iv.is_empty() {
        return Err(invalid);
    }
    Ok((Prf::new(plan.prf)?, plan))
}

/// What CKA_KEY_TYPE and CKA_VALUE_LEN of a template say.
fn wanted(template: &Attributes) -> Result<(CK_KEY_TYPE, usize), Failure> {
    let kind = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
    let length = template
        .number(CKA_VALUE_LEN)?
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if keys::secret::allows_length(kind, length) {
        Ok((kind, length))
    } else {
        Err(CKR_KEY_SIZE_RANGE.into())
    }
}

impl Mechanism for CounterKdf {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_SP800_108_COUNTER_KDF
    }

    fn info(&self) -> Info {
        Info {
            min: 1,
            max: SECRET_MAX as u32,
            flags: CKF_DERIVE,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if usage != Usage::Derive {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        plan(parameters)?.0.key(key).map(|_| ())
    }

    fn derive(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        let (prf, plan) = plan(parameters)?;
        let base = prf.key(Some(key))?;
        let templates = plan
            .further_keys
            .iter()
            .map(|bytes| Attributes::decode(bytes).map_err(|_| CKR_TEMPLATE_INCONSISTENT.into()))
            .collect::<Result<Vec<_>, Failure>>()?;
        let sizes = std::iter::once(template)
            .chain(&templates)
            .map(wanted)
            .collect::<Result<Vec<_>, Failure>>()?;
        let total: usize = sizes.iter().map(|(_, length)| length).sum();
        if total > OUTPUT_MAX {
            return Err(CKR_KEY_SIZE_RANGE.into());
        }
        let output = run(environment, &prf.keyed(base)?, &plan, total)?;
        let mut rest = output.expose();
        let mut made = Vec::new();
        for (kind, length) in sizes {
            let (value, after) = rest.split_at_checked(length).ok_or(Failure::internal())?;
            rest = after;
            made.push(keys::secret::made(kind, Secret::copy(value))?);
        }
        let mut made = made.into_iter();
        Ok(Derived {
            key: made.next(),
            further: templates.into_iter().zip(made).map(Some).collect(),
            output: Vec::new(),
        })
    }
}

/// All keys, one behind the other.
fn run(
    environment: &dyn Environment,
    prf: &kdf::Prf,
    plan: &Sp800Kdf<'_>,
    total: usize,
) -> Result<Secret, Failure> {
    let mut keys = Vec::new();
    for field in &plan.fields {
        if let KdfField::Key(handle) = field {
            keys.push(environment.key(*handle, Some(Usage::Derive))?);
        }
    }
    let mut next_key = keys.iter();
    let mut fields = Vec::new();
    for field in &plan.fields {
        fields.push(match field {
            KdfField::Iteration {
                little_endian,
                width_bits,
            } => Field::Counter {
                width: (width_bits / 8) as usize,
                little_endian: *little_endian,
            },
            KdfField::Length {
                method,
                little_endian,
                width_bits,
            } => {
                let bytes = if *method == CK_SP800_108_DKM_LENGTH_SUM_OF_KEYS {
                    total
                } else {
                    total.next_multiple_of(prf.bytes())
                };
                Field::Length {
                    bits: bytes as u64 * 8,
                    width: (width_bits / 8) as usize,
                    little_endian: *little_endian,
                }
            }
            KdfField::Bytes(bytes) => Field::Bytes(bytes),
            KdfField::Key(_) => match next_key.next().map(Arc::as_ref) {
                Some(Key::Secret(key)) => Field::Bytes(key.value().expose()),
                _ => return Err(super::wrong_key()),
            },
            KdfField::Counter { .. } => return Err(CKR_MECHANISM_PARAM_INVALID.into()),
        });
    }
    Ok(kdf::kbkdf_counter(prf, &fields, total)?)
}
