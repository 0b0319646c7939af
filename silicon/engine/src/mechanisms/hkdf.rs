//! HKDF (RFC 5869; PKCS#11 3.2, section 6.65): TLS 1.3's key schedule is made of it.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKA_KEY_TYPE, CKA_VALUE_LEN, CKF_DERIVE, CKF_HKDF_SALT_DATA,
    CKF_HKDF_SALT_KEY, CKF_HKDF_SALT_NULL, CKK_GENERIC_SECRET, CKK_HKDF, CKM_HKDF_DATA,
    CKM_HKDF_DERIVE, CKM_HKDF_KEY_GEN, CKR_KEY_SIZE_RANGE, CKR_MECHANISM_INVALID,
    CKR_MECHANISM_PARAM_INVALID, CKR_TEMPLATE_INCOMPLETE, CKR_TEMPLATE_INCONSISTENT,
};

use super::secret::{self, Generation};
use super::{Derived, Environment, Info, Lineage, Made, Mechanism, digest};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::secret::SECRET_MAX;
use crate::keys::{self, Key, SecretKey};
use crate::lc::digest::Hash;
use crate::lc::{Secret, kdf};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Generation {
        kind: CKM_HKDF_KEY_GEN,
        makes: CKK_HKDF,
        usual: None,
        sizes: (1, SECRET_MAX as u32),
    },
    &Hkdf { data: false },
    &Hkdf { data: true },
];

/// Key types of a base key.
const BASES: &[u64] = &[CKK_HKDF, CKK_GENERIC_SECRET];

struct Hkdf {
    /// Whether it makes a data object.
    data: bool,
}

enum Salt<'a> {
    None,
    Data(&'a [u8]),
    Key(u64),
}

/// The parameters, judged.
struct Plan<'a> {
    hash: Hash,
    /// The salt, where there is an extract step.
    extract: Option<Salt<'a>>,
    /// The info, where there is an expand step.
    expand: Option<&'a [u8]>,
}

impl<'a> Plan<'a> {
    fn new(parameters: &'a [u8]) -> Result<Self, Failure> {
        let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
        let Parameters::Hkdf {
            extract,
            expand,
            hash,
            salt_type,
            salt,
            salt_key,
            info,
        } = secret::decode(parameters)?
        else {
            return Err(invalid);
        };
        let salt = match salt_type {
            // Without an extract step the salt's fields mean nothing.
            _ if !extract => Salt::None,
            CKF_HKDF_SALT_NULL => Salt::None,
            CKF_HKDF_SALT_DATA => Salt::Data(salt),
            CKF_HKDF_SALT_KEY => Salt::Key(salt_key),
            _ => return Err(invalid),
        };
        if !extract && !expand {
            return Err(invalid);
        }
        Ok(Self {
            hash: digest::hash_of(hash).ok_or(invalid)?,
            extract: extract.then_some(salt),
            expand: expand.then_some(info),
        })
    }

    /// Bytes of the result: what the template says, or the only length there is.
    fn length(&self, template: &Attributes) -> Result<usize, Failure> {
        let asked = template.number(CKA_VALUE_LEN)?;
        let Some(length) = asked else {
            let fixed = self.expand.is_none()
                || template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET)
                    == CKK_GENERIC_SECRET;
            return if fixed {
                Ok(self.hash.bytes())
            } else {
                Err(CKR_TEMPLATE_INCOMPLETE.into())
            };
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self.expand.is_none() && length != self.hash.bytes() {
            return Err(CKR_TEMPLATE_INCONSISTENT.into());
        }
        if length == 0 || length > 255 * self.hash.bytes() {
            return Err(CKR_KEY_SIZE_RANGE.into());
        }
        Ok(length)
    }

    fn run(
        &self,
        environment: &dyn Environment,
        key: &SecretKey,
        length: usize,
    ) -> Result<Secret, Failure> {
        let extracted = match &self.extract {
            None => None,
            Some(Salt::None) => Some(self.extracted(&[], key)?),
            Some(Salt::Data(salt)) => Some(self.extracted(salt, key)?),
            Some(Salt::Key(handle)) => {
                let salt = environment.key(*handle, Some(Usage::Derive))?;
                let salt = secret::of_type(Some(&salt), BASES)?;
                Some(self.extracted(salt.value().expose(), key)?)
            }
        };
        match (self.expand, extracted) {
            (None, Some(extracted)) => Ok(extracted),
            (info, extracted) => {
                let key = extracted.as_ref().unwrap_or(key.value());
                let info = info.unwrap_or(&[]);
                Ok(kdf::hkdf_expand(self.hash, key.expose(), info, length)?)
            }
        }
    }

    fn extracted(&self, salt: &[u8], key: &SecretKey) -> Result<Secret, Failure> {
        Ok(kdf::hkdf_extract(self.hash, salt, key.value().expose())?)
    }
}

impl Mechanism for Hkdf {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        if self.data {
            CKM_HKDF_DATA
        } else {
            CKM_HKDF_DERIVE
        }
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
        Plan::new(parameters)?;
        secret::of_type(key, BASES).map(|_| ())
    }

    fn lineage(&self, _: &[u8]) -> Result<Lineage, Failure> {
        Ok(if self.data {
            Lineage::Data
        } else {
            Lineage::Function
        })
    }

    fn derive(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Derived, Failure> {
        let plan = Plan::new(parameters)?;
        let base = secret::of_type(Some(key), BASES)?;
        let length = plan.length(template)?;
        let value = plan.run(environment, base, length)?;
        if self.data {
            return Ok(Derived::one(Made {
                key: Key::Secret(SecretKey::new(CKK_GENERIC_SECRET, value)),
                attributes: Attributes::new(),
            }));
        }
        let kind = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
        Ok(Derived::one(keys::secret::made(kind, value)?))
    }
}
