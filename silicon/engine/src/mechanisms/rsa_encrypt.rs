//! RSA on what the caller formatted or encrypts: CKM_RSA_PKCS, CKM_RSA_X_509 and OAEP (PKCS#11 3.2,
//! sections 6.1.6, 6.1.7, 6.1.8).
//!
//! PKCS#1 v1.5 decryption rejects implicitly: a wrong padding gives another message, never an error
//! that an attacker could ask about.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::{self, Parameters};
use cryptoki_sys::*;

use super::digest::hash_of;
use super::hashed::mask_of;
use super::rsa::{SIZES, require_length, signature_length};
use super::{Environment, Info, Mechanism, wrong_key};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::rsa::{PrivateKey, PublicKey, encrypt::Oaep};
use crate::lc::{Input, Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Formatted { kind: CKM_RSA_PKCS },
    &Formatted {
        kind: CKM_RSA_X_509,
    },
    &OaepMechanism,
];

/// Bytes that PKCS#1 v1.5 padding adds at least.
const OVERHEAD: usize = 11;

pub(super) fn private(key: &Key) -> Result<&PrivateKey, Failure> {
    match key {
        Key::RsaPrivate(key) => Ok(key),
        _ => Err(wrong_key()),
    }
}

pub(super) fn public(key: &Key) -> Result<&PublicKey, Failure> {
    match key {
        Key::RsaPublic(key) => Ok(key),
        _ => Err(wrong_key()),
    }
}

/// Bytes of the modulus of either half.
pub(super) fn modulus_bytes(key: Option<&Key>) -> Result<usize, Failure> {
    match key {
        Some(Key::RsaPrivate(key)) => Ok(key.bytes()),
        Some(Key::RsaPublic(key)) => Ok(key.bytes()),
        _ => Err(wrong_key()),
    }
}

/// The halves that a usage wants.
pub(super) fn check_half(usage: Usage, key: Option<&Key>) -> Result<(), Failure> {
    let fits = match usage {
        Usage::Sign | Usage::SignRecover | Usage::Decrypt | Usage::Unwrap => {
            matches!(key, Some(Key::RsaPrivate(_)))
        }
        Usage::Verify | Usage::VerifyRecover | Usage::Encrypt | Usage::Wrap => {
            matches!(key, Some(Key::RsaPublic(_)))
        }
        _ => return Err(CKR_MECHANISM_INVALID.into()),
    };
    if fits { Ok(()) } else { Err(wrong_key()) }
}

fn require_ciphertext(key: &PrivateKey, ciphertext: &[u8], failure: CK_RV) -> Result<(), Failure> {
    if ciphertext.len() == key.bytes() {
        Ok(())
    } else {
        Err(failure.into())
    }
}

/// CKM_RSA_PKCS (padding of PKCS#1 v1.5) and CKM_RSA_X_509 (none).
struct Formatted {
    kind: CK_MECHANISM_TYPE,
}

impl Formatted {
    fn pads(&self) -> bool {
        self.kind == CKM_RSA_PKCS
    }

    fn sign_bytes(&self, key: &Key, data: &[u8], output: &mut Output<'_>) -> Result<(), Failure> {
        let key = private(key)?;
        let mut signature = [0u8; 512];
        let length = if self.pads() {
            key.sign_padded(data, &mut signature)?
        } else {
            key.sign_raw(data, &mut signature)?
        };
        Ok(output.write(signature.get(..length).unwrap_or(&[]))?)
    }

    fn encrypt_bytes(&self, key: &Key, data: &[u8]) -> Result<Vec<u8>, Failure> {
        let key = public(key)?;
        Ok(if self.pads() {
            key.encrypt_pkcs1(data)?
        } else {
            key.encrypt_raw(data)?
        })
    }

    fn decrypt_bytes(&self, key: &Key, data: &[u8], length: CK_RV) -> Result<Secret, Failure> {
        let key = private(key)?;
        require_ciphertext(key, data, length)?;
        Ok(if self.pads() {
            key.decrypt_pkcs1(data)?
        } else {
            key.decrypt_raw(data)?
        })
    }
}

impl Mechanism for Formatted {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        let wrapping = if self.pads() {
            CKF_WRAP | CKF_UNWRAP
        } else {
            0
        };
        let flags = CKF_SIGN
            | CKF_VERIFY
            | CKF_SIGN_RECOVER
            | CKF_VERIFY_RECOVER
            | CKF_ENCRYPT
            | CKF_DECRYPT;
        Info {
            min: SIZES.0,
            max: SIZES.1,
            flags: flags | wrapping,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !parameters.is_empty() {
            return Err(CKR_MECHANISM_PARAM_INVALID.into());
        }
        if !self.pads() && matches!(usage, Usage::Wrap | Usage::Unwrap) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        check_half(usage, key)
    }

    fn output_length(
        &self,
        usage: Usage,
        key: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        let whole = modulus_bytes(key)?;
        Ok(match usage {
            // Only the decrypted message says how long it is.
            Usage::Decrypt if self.pads() => (whole - OVERHEAD, false),
            Usage::VerifyRecover if self.pads() => (whole - OVERHEAD, false),
            _ => (whole, true),
        })
    }

    fn sign(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        signature_length(key)?;
        self.sign_bytes(key, input.to_secret().expose(), output)
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        let key = public(key)?;
        require_length(key, signature)?;
        let data = input.to_secret();
        if self.pads() {
            key.verify_padded(data.expose(), signature)?;
        } else {
            key.verify_raw(data.expose(), signature)?;
        }
        Ok(())
    }

    fn sign_recover(
        &self,
        key: &Key,
        _: &[u8],
        input: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        self.sign_bytes(key, input, output)
    }

    fn verify_recover(
        &self,
        key: &Key,
        _: &[u8],
        signature: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let key = public(key)?;
        require_length(key, signature)?;
        let data = if self.pads() {
            key.recover_padded(signature)?
        } else {
            key.recover_raw(signature)?
        };
        Ok(output.write(&data)?)
    }

    fn encrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        Ok(output.write(&self.encrypt_bytes(key, input.to_secret().expose())?)?)
    }

    fn decrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let plain = self.decrypt_bytes(
            key,
            input.to_secret().expose(),
            CKR_ENCRYPTED_DATA_LEN_RANGE,
        )?;
        Ok(output.write(plain.expose())?)
    }

    fn wrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        material: &Secret,
        _: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        self.encrypt_bytes(key, material.expose())
            .map_err(too_large_to_wrap)
    }

    fn unwrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        _: &[u8],
        wrapped: &[u8],
        _: &[u8],
    ) -> Result<Secret, Failure> {
        self.decrypt_bytes(key, wrapped, CKR_WRAPPED_KEY_LEN_RANGE)
    }
}

fn too_large_to_wrap(failure: Failure) -> Failure {
    if failure.code == CKR_DATA_LEN_RANGE {
        CKR_KEY_SIZE_RANGE.into()
    } else {
        failure
    }
}

pub(super) fn oaep<'a>(given: &parameters::Oaep<'a>) -> Result<Oaep<'a>, Failure> {
    let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
    if given.source != CKZ_DATA_SPECIFIED && !(given.source == 0 && given.label.is_empty()) {
        return Err(invalid);
    }
    Ok(Oaep {
        hash: hash_of(given.hash).ok_or(invalid)?,
        mask: mask_of(given.mgf).ok_or(invalid)?,
        label: given.label,
    })
}

/// CKM_RSA_PKCS_OAEP.
struct OaepMechanism;

impl OaepMechanism {
    fn decode(parameters: &[u8]) -> Result<Oaep<'_>, Failure> {
        match Parameters::decode(parameters) {
            Ok(Parameters::Oaep(given)) => oaep(&given),
            _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
        }
    }

    fn decrypt_bytes(
        key: &Key,
        parameters: &[u8],
        data: &[u8],
        length: CK_RV,
    ) -> Result<Secret, Failure> {
        let key = private(key)?;
        require_ciphertext(key, data, length)?;
        Ok(key.decrypt_oaep(&Self::decode(parameters)?, data)?)
    }
}

impl Mechanism for OaepMechanism {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_RSA_PKCS_OAEP
    }

    fn info(&self) -> Info {
        Info {
            min: SIZES.0,
            max: SIZES.1,
            flags: CKF_ENCRYPT | CKF_DECRYPT | CKF_WRAP | CKF_UNWRAP,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !matches!(
            usage,
            Usage::Encrypt | Usage::Decrypt | Usage::Wrap | Usage::Unwrap
        ) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        check_half(usage, key)?;
        let longest = Self::decode(parameters)?.longest(modulus_bytes(key)?);
        longest.map(|_| ()).map_err(|_| CKR_KEY_SIZE_RANGE.into())
    }

    fn output_length(
        &self,
        usage: Usage,
        key: Option<&Key>,
        parameters: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        let whole = modulus_bytes(key)?;
        Ok(match usage {
            Usage::Decrypt => (Self::decode(parameters)?.longest(whole)?, false),
            _ => (whole, true),
        })
    }

    fn encrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let data = input.to_secret();
        Ok(output.write(&public(key)?.encrypt_oaep(&Self::decode(parameters)?, data.expose())?)?)
    }

    fn decrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let data = input.to_secret();
        let plain =
            Self::decrypt_bytes(key, parameters, data.expose(), CKR_ENCRYPTED_DATA_LEN_RANGE)?;
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
        public(key)?
            .encrypt_oaep(&Self::decode(parameters)?, material.expose())
            .map_err(|error| too_large_to_wrap(error.into()))
    }

    fn unwrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        wrapped: &[u8],
        _: &[u8],
    ) -> Result<Secret, Failure> {
        Self::decrypt_bytes(key, parameters, wrapped, CKR_WRAPPED_KEY_LEN_RANGE).map_err(
            |failure| {
                if failure.code == CKR_ENCRYPTED_DATA_INVALID {
                    CKR_WRAPPED_KEY_INVALID.into()
                } else {
                    failure
                }
            },
        )
    }
}
