//! What the families of secret-key mechanisms share.

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::{
    CK_KEY_TYPE, CK_MECHANISM_TYPE, CK_RV, CKA_KEY_TYPE, CKA_VALUE_LEN, CKF_GENERATE,
    CKR_ATTRIBUTE_VALUE_INVALID, CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_LEN_RANGE,
    CKR_KEY_SIZE_RANGE, CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID, CKR_SIGNATURE_INVALID,
    CKR_SIGNATURE_LEN_RANGE, CKR_TEMPLATE_INCOMPLETE, CKR_TEMPLATE_INCONSISTENT,
    CKR_WRAPPED_KEY_INVALID, CKR_WRAPPED_KEY_LEN_RANGE,
};

use super::{Environment, Info, Made, Mechanism, wrong_key};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::keys::{self, Key, SecretKey};
use crate::lc::aes::{BLOCK, Block, Direction};
use crate::lc::secret::constant_time_equal;
use crate::lc::{self, Secret};

/// The secret key, if it is of one of these types.
pub fn of_type<'a>(key: Option<&'a Key>, kinds: &[CK_KEY_TYPE]) -> Result<&'a SecretKey, Failure> {
    match key {
        Some(Key::Secret(secret)) if kinds.contains(&secret.kind()) => Ok(secret),
        _ => Err(wrong_key()),
    }
}

/// The parameters in their wire form.
pub fn decode(parameters: &[u8]) -> Result<Parameters<'_>, Failure> {
    Parameters::decode(parameters).map_err(|_| CKR_MECHANISM_PARAM_INVALID.into())
}

/// Refuses parameters where the mechanism has none.
pub fn none(parameters: &[u8]) -> Result<(), Failure> {
    if parameters.is_empty() {
        Ok(())
    } else {
        Err(CKR_MECHANISM_PARAM_INVALID.into())
    }
}

/// Bytes of MAC that the parameters of a mechanism ..._GENERAL ask for: 1 to `most`.
pub fn mac_length(parameters: &[u8], most: usize) -> Result<usize, Failure> {
    match decode(parameters)? {
        Parameters::Number(length) => usize::try_from(length)
            .ok()
            .filter(|length| (1..=most).contains(length))
            .ok_or(Failure::new(CKR_MECHANISM_PARAM_INVALID)),
        _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
    }
}

/// Parameters that are one block: an IV or a tweak.
pub fn block(parameters: &[u8]) -> Result<Block, Failure> {
    match decode(parameters)? {
        Parameters::Bytes(bytes) if bytes.len() == BLOCK => bytes
            .try_into()
            .map_err(|_| CKR_MECHANISM_PARAM_INVALID.into()),
        _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
    }
}

/// Which way a usage goes.
pub fn direction(usage: Usage) -> Result<Direction, Failure> {
    match usage {
        Usage::Encrypt | Usage::Wrap => Ok(Direction::Encrypt),
        Usage::Decrypt | Usage::Unwrap => Ok(Direction::Decrypt),
        _ => Err(CKR_MECHANISM_INVALID.into()),
    }
}

/// A failed encryption or decryption as the standard names it.
pub fn cipher_failure(direction: Direction) -> impl Fn(lc::Error) -> Failure {
    move |error| match (error, direction) {
        (lc::Error::DataLength, Direction::Encrypt) => CKR_DATA_LEN_RANGE.into(),
        (lc::Error::DataLength, Direction::Decrypt) => CKR_ENCRYPTED_DATA_LEN_RANGE.into(),
        _ => error.into(),
    }
}

/// A key that a mechanism does not wrap.
pub fn wrap_failure(error: lc::Error) -> Failure {
    match error {
        lc::Error::DataLength => CKR_KEY_SIZE_RANGE.into(),
        _ => error.into(),
    }
}

/// A wrapped key that does not open.
pub fn unwrap_failure(error: lc::Error) -> Failure {
    match error {
        lc::Error::DataLength => CKR_WRAPPED_KEY_LEN_RANGE.into(),
        lc::Error::Decrypt => CKR_WRAPPED_KEY_INVALID.into(),
        _ => error.into(),
    }
}

/// Compares a MAC with the one that was made.
pub fn compare(made: &[u8], given: &[u8]) -> Result<(), Failure> {
    let result: CK_RV = if made.len() != given.len() {
        CKR_SIGNATURE_LEN_RANGE
    } else if !constant_time_equal(made, given) {
        CKR_SIGNATURE_INVALID
    } else {
        return Ok(());
    };
    Err(result.into())
}

/// A random key of this type, as long as CKA_VALUE_LEN of the template (or `usual`) says.
pub fn generate(
    environment: &dyn Environment,
    parameters: &[u8],
    template: &Attributes,
    kind: CK_KEY_TYPE,
    usual: Option<usize>,
) -> Result<Made, Failure> {
    none(parameters)?;
    if template
        .number(CKA_KEY_TYPE)?
        .is_some_and(|given| given != kind)
    {
        return Err(CKR_TEMPLATE_INCONSISTENT.into());
    }
    let length = match template.number(CKA_VALUE_LEN)? {
        Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
        None => usual.ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?,
    };
    if !keys::secret::allows_length(kind, length) {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID.into());
    }
    let mut value = Secret::zeroed(length);
    environment.random(value.expose_mut())?;
    keys::secret::made(kind, value)
}

/// A key generation of one type of secret key.
pub struct Generation {
    /// The mechanism.
    pub kind: CK_MECHANISM_TYPE,
    /// CKA_KEY_TYPE of what it makes.
    pub makes: CK_KEY_TYPE,
    /// Bytes of a key whose template names no CKA_VALUE_LEN; None: it must.
    pub usual: Option<usize>,
    /// Smallest and largest key in bytes.
    pub sizes: (u32, u32),
}

impl Mechanism for Generation {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        Info {
            min: self.sizes.0,
            max: self.sizes.1,
            flags: CKF_GENERATE,
        }
    }

    fn generate(
        &self,
        environment: &dyn Environment,
        parameters: &[u8],
        template: &Attributes,
    ) -> Result<Made, Failure> {
        generate(environment, parameters, template, self.makes, self.usual)
    }
}
