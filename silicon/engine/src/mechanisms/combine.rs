//! Keys put together from keys and data, and data encrypted into keys (PKCS#11 3.2, sections 6.43 and
//! 6.10.6).
//!
//! Whoever can cut the result short can read the base key off a series of results, so it always has
//! its whole length: CKA_VALUE_LEN may say so and nothing else, and data to be combined by XOR is as
//! long as the key. CKM_EXTRACT_KEY_FROM_KEY, which does nothing but cut, is refused.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::{Derived, Environment, Info, Lineage, Mechanism, secret};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::secret::{SECRET_MAX, from_derived, made};
use crate::keys::{Key, SecretKey};
use crate::lc::aes::{BLOCK, Direction};
use crate::lc::{Input, Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Combination(CKM_CONCATENATE_BASE_AND_KEY),
    &Combination(CKM_CONCATENATE_BASE_AND_DATA),
    &Combination(CKM_CONCATENATE_DATA_AND_BASE),
    &Combination(CKM_XOR_BASE_AND_DATA),
    &Encryption(CKM_AES_ECB_ENCRYPT_DATA),
    &Encryption(CKM_AES_CBC_ENCRYPT_DATA),
];

const INFO: Info = Info {
    min: 1,
    max: SECRET_MAX as u32,
    flags: CKF_DERIVE,
};

const fn invalid() -> Failure {
    Failure::new(CKR_MECHANISM_PARAM_INVALID)
}

fn derives(usage: Usage) -> Result<(), Failure> {
    if usage == Usage::Derive {
        Ok(())
    } else {
        Err(CKR_MECHANISM_INVALID.into())
    }
}

/// Concatenation and XOR.
struct Combination(CK_MECHANISM_TYPE);

/// What the base key is combined with.
enum Other<'a> {
    Key(u64),
    Data(&'a [u8]),
}

impl Combination {
    fn other<'a>(&self, parameters: &'a [u8]) -> Result<Other<'a>, Failure> {
        match (self.0, secret::decode(parameters)?) {
            (CKM_CONCATENATE_BASE_AND_KEY, Parameters::Number(handle)) => Ok(Other::Key(handle)),
            (CKM_CONCATENATE_BASE_AND_KEY, _) => Err(invalid()),
            (_, Parameters::Bytes(data)) if (1..=SECRET_MAX).contains(&data.len()) => {
                Ok(Other::Data(data))
            }
            _ => Err(invalid()),
        }
    }

    fn combine(&self, base: &[u8], other: &[u8]) -> Result<Secret, Failure> {
        if self.0 == CKM_XOR_BASE_AND_DATA {
            if base.len() != other.len() {
                return Err(invalid());
            }
            let mut out = Secret::copy(base);
            for (byte, other) in out.expose_mut().iter_mut().zip(other) {
                *byte ^= other;
            }
            return Ok(out);
        }
        let (left, right) = match self.0 {
            CKM_CONCATENATE_DATA_AND_BASE => (other, base),
            _ => (base, other),
        };
        let mut out = Secret::zeroed(left.len() + right.len());
        let (head, tail) = out.expose_mut().split_at_mut(left.len());
        head.copy_from_slice(left);
        tail.copy_from_slice(right);
        Ok(out)
    }
}

fn any(key: Option<&Key>) -> Result<&SecretKey, Failure> {
    match key {
        Some(Key::Secret(secret)) => Ok(secret),
        _ => Err(super::wrong_key()),
    }
}

impl Mechanism for Combination {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0
    }

    fn info(&self) -> Info {
        INFO
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        derives(usage)?;
        self.other(parameters)?;
        any(key).map(|_| ())
    }

    fn lineage(&self, parameters: &[u8]) -> Result<Lineage, Failure> {
        Ok(Lineage::Transparent(match self.other(parameters)? {
            Other::Key(handle) => vec![handle],
            Other::Data(_) => Vec::new(),
        }))
    }

    fn derive(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        let base = any(Some(key))?.value().expose();
        let value = match self.other(parameters)? {
            Other::Data(data) => self.combine(base, data)?,
            Other::Key(handle) => {
                let other = environment.key(handle, Some(Usage::Derive))?;
                self.combine(base, any(Some(&other))?.value().expose())?
            }
        };
        let kind = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
        Ok(Derived::one(made(kind, value)?))
    }
}

/// A key that is the encryption of data under an AES key.
struct Encryption(CK_MECHANISM_TYPE);

impl Encryption {
    /// The IV, in CBC, and the data: whole blocks.
    fn plan<'a>(&self, parameters: &'a [u8]) -> Result<(Option<[u8; BLOCK]>, &'a [u8]), Failure> {
        let (iv, data) = match (self.0, secret::decode(parameters)?) {
            (CKM_AES_ECB_ENCRYPT_DATA, Parameters::Bytes(data)) => (None, data),
            (CKM_AES_CBC_ENCRYPT_DATA, Parameters::CbcData { iv, data }) => (Some(iv), data),
            _ => return Err(invalid()),
        };
        if data.is_empty() || !data.len().is_multiple_of(BLOCK) || data.len() > SECRET_MAX {
            return Err(invalid());
        }
        Ok((iv, data))
    }
}

impl Mechanism for Encryption {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0
    }

    fn info(&self) -> Info {
        Info {
            min: 16,
            max: 32,
            flags: CKF_DERIVE,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        derives(usage)?;
        self.plan(parameters)?;
        secret::of_type(key, &[CKK_AES]).map(|_| ())
    }

    fn derive(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        let (iv, data) = self.plan(parameters)?;
        // The parameters are too short for the key that is wanted of them.
        let wanted = template.number(CKA_VALUE_LEN)?;
        if wanted.is_some_and(|wanted| wanted > data.len() as u64) {
            return Err(invalid());
        }
        let aes = secret::of_type(Some(key), &[CKK_AES])?.aes()?;
        let mut value = Secret::zeroed(data.len());
        let (input, mut output) = (Input::new(data), Output::new(value.expose_mut()));
        match iv {
            None => aes.ecb(Direction::Encrypt, input, &mut output)?,
            Some(iv) => aes.cbc(Direction::Encrypt, &iv, input, &mut output)?,
        }
        let kind = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
        Ok(Derived::one(from_derived(kind, template, &value)?))
    }
}
