//! AES key wrap (RFC 3394) and key wrap with padding (RFC 5649; PKCS#11 3.2, section 6.13).
//!
//! CKM_AES_KEY_WRAP_PAD, which the standard gave up because vendors read it in two ways, is RFC 5649
//! here, as in SoftHSM and OpenSSL; the other reading has a name of its own, CKM_AES_KEY_WRAP_PKCS7.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKF_DECRYPT, CKF_ENCRYPT, CKF_UNWRAP, CKF_WRAP, CKK_AES, CKM_AES_KEY_WRAP,
    CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_PKCS7,
    CKR_MECHANISM_PARAM_INVALID,
};

use super::secret::{self, cipher_failure};
use super::{Environment, Info, Mechanism};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::aes::Direction;
use crate::lc::keywrap::{DEFAULT_ICV, DEFAULT_IV, unwrap, unwrap_padded, wrap, wrap_padded};
use crate::lc::{self, Input, Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &KeyWrap(CKM_AES_KEY_WRAP),
    &KeyWrap(CKM_AES_KEY_WRAP_PAD),
    &KeyWrap(CKM_AES_KEY_WRAP_KWP),
    &KeyWrap(CKM_AES_KEY_WRAP_PKCS7),
];

struct KeyWrap(CK_MECHANISM_TYPE);

/// Bytes of a half-block.
const HALF: usize = 8;

/// The check value: the caller's or the standard's.
fn check_value<const N: usize>(parameters: &[u8], usual: [u8; N]) -> Result<[u8; N], Failure> {
    match secret::decode(parameters)? {
        Parameters::None => Ok(usual),
        Parameters::Bytes(bytes) => bytes
            .try_into()
            .map_err(|_| CKR_MECHANISM_PARAM_INVALID.into()),
        _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
    }
}

impl KeyWrap {
    fn is_padded(&self) -> bool {
        matches!(self.0, CKM_AES_KEY_WRAP_PAD | CKM_AES_KEY_WRAP_KWP)
    }

    fn seal(&self, key: &Key, parameters: &[u8], plain: &Secret) -> Result<Vec<u8>, Sealing> {
        let key = secret::of_type(Some(key), &[CKK_AES])?.aes()?;
        let plain = plain.expose();
        if self.is_padded() {
            let icv = check_value(parameters, DEFAULT_ICV)?;
            return Ok(wrap_padded(key, &icv, plain)?);
        }
        let iv = check_value(parameters, DEFAULT_IV)?;
        if self.0 != CKM_AES_KEY_WRAP_PKCS7 {
            return Ok(wrap(key, &iv, plain)?);
        }
        let pad = HALF - plain.len() % HALF;
        let mut padded = Secret::zeroed(plain.len() + pad);
        let (head, tail) = padded.expose_mut().split_at_mut(plain.len());
        head.copy_from_slice(plain);
        tail.fill(pad as u8);
        Ok(wrap(key, &iv, padded.expose())?)
    }

    fn open(&self, key: &Key, parameters: &[u8], wrapped: &[u8]) -> Result<Secret, Sealing> {
        let key = secret::of_type(Some(key), &[CKK_AES])?.aes()?;
        if self.is_padded() {
            let icv = check_value(parameters, DEFAULT_ICV)?;
            return Ok(unwrap_padded(key, &icv, wrapped)?);
        }
        let iv = check_value(parameters, DEFAULT_IV)?;
        let opened = unwrap(key, &iv, wrapped)?;
        if self.0 != CKM_AES_KEY_WRAP_PKCS7 {
            return Ok(opened);
        }
        // The check value has verified: the padding is what the wrapper wrote.
        let plain = opened.expose();
        let pad = usize::from(plain.last().copied().unwrap_or(0));
        let (head, tail) = plain
            .split_at_checked(plain.len().wrapping_sub(pad))
            .filter(|_| (1..=HALF).contains(&pad))
            .ok_or(lc::Error::Decrypt)?;
        if tail.iter().any(|byte| usize::from(*byte) != pad) {
            return Err(lc::Error::Decrypt.into());
        }
        Ok(Secret::copy(head))
    }
}

/// A failure that has its code, or one of the primitive that each function names in its own way.
enum Sealing {
    Named(Failure),
    Primitive(lc::Error),
}

impl From<Failure> for Sealing {
    fn from(failure: Failure) -> Self {
        Self::Named(failure)
    }
}

impl From<lc::Error> for Sealing {
    fn from(error: lc::Error) -> Self {
        Self::Primitive(error)
    }
}

impl Sealing {
    fn named(self, name: impl Fn(lc::Error) -> Failure) -> Failure {
        match self {
            Self::Named(failure) => failure,
            Self::Primitive(error) => name(error),
        }
    }
}

impl Mechanism for KeyWrap {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0
    }

    fn info(&self) -> Info {
        Info {
            min: 16,
            max: 32,
            flags: CKF_ENCRYPT | CKF_DECRYPT | CKF_WRAP | CKF_UNWRAP,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        secret::direction(usage)?;
        if self.is_padded() {
            check_value(parameters, DEFAULT_ICV)?;
        } else {
            check_value(parameters, DEFAULT_IV)?;
        }
        secret::of_type(key, &[CKK_AES]).map(|_| ())
    }

    fn output_length(
        &self,
        usage: Usage,
        _: Option<&Key>,
        _: &[u8],
        input: usize,
    ) -> Result<(usize, bool), Failure> {
        let length = match (secret::direction(usage)?, self.0) {
            (Direction::Decrypt, _) => input.saturating_sub(HALF),
            (Direction::Encrypt, CKM_AES_KEY_WRAP_PKCS7) => input / HALF * HALF + 2 * HALF,
            (Direction::Encrypt, _) => input.next_multiple_of(HALF) + HALF,
        };
        Ok((length, false))
    }

    fn encrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let wrapped = self
            .seal(key, parameters, &input.to_secret())
            .map_err(|error| error.named(cipher_failure(Direction::Encrypt)))?;
        Ok(output.write(&wrapped)?)
    }

    fn decrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let plain = self
            .open(key, parameters, input.to_secret().expose())
            .map_err(|error| error.named(cipher_failure(Direction::Decrypt)))?;
        Ok(output.write(plain.expose())?)
    }

    fn wrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        material: &Secret,
        _: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        self.seal(key, parameters, material)
            .map_err(|error| error.named(secret::wrap_failure))
    }

    fn unwrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        wrapped: &[u8],
        _: &[u8],
    ) -> Result<Secret, Failure> {
        self.open(key, parameters, wrapped)
            .map_err(|error| error.named(secret::unwrap_failure))
    }
}
