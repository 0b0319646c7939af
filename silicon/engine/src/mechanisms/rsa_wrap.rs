//! Keys under RSA and AES: CKM_RSA_AES_KEY_WRAP (PKCS#11 3.2, section 6.1.14).

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;

use super::rsa::SIZES;
use super::rsa_encrypt::{check_half, modulus_bytes, oaep, private, public};
use super::{Environment, Info, Mechanism};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::aes::AesKey;
use crate::lc::rsa::encrypt::Oaep;
use crate::lc::{Secret, keywrap};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[&AesKeyWrap];

/// The default ICV prefix of RFC 5649.
const ICV: [u8; 4] = [0xA6, 0x59, 0x59, 0xA6];

/// CKM_RSA_AES_KEY_WRAP: a new AES key under OAEP, then the material under that key (RFC 5649).
struct AesKeyWrap;

struct WrapParameters<'a> {
    aes_bytes: usize,
    oaep: Oaep<'a>,
}

impl AesKeyWrap {
    fn decode(parameters: &[u8]) -> Result<WrapParameters<'_>, Failure> {
        let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
        let Ok(Parameters::RsaAesWrap {
            aes_bits,
            oaep: given,
        }) = Parameters::decode(parameters)
        else {
            return Err(invalid);
        };
        let aes_bytes = match aes_bits {
            128 => 16,
            192 => 24,
            256 => 32,
            _ => return Err(invalid),
        };
        Ok(WrapParameters {
            aes_bytes,
            oaep: oaep(&given)?,
        })
    }
}

impl Mechanism for AesKeyWrap {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_RSA_AES_KEY_WRAP
    }

    fn info(&self) -> Info {
        Info {
            min: SIZES.0,
            max: SIZES.1,
            flags: CKF_WRAP | CKF_UNWRAP,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        if !matches!(usage, Usage::Wrap | Usage::Unwrap) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        check_half(usage, key)?;
        Self::decode(parameters).map(|_| ())
    }

    fn output_length(
        &self,
        _: Usage,
        key: Option<&Key>,
        _: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((modulus_bytes(key)?, false))
    }

    fn wrap(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        material: &Secret,
        _: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let given = Self::decode(parameters)?;
        let mut aes = Secret::zeroed(given.aes_bytes);
        environment.random(aes.expose_mut())?;
        let mut wrapped = public(key)?.encrypt_oaep(&given.oaep, aes.expose())?;
        wrapped.extend(keywrap::wrap_padded(
            &AesKey::new(aes.expose())?,
            &ICV,
            material.expose(),
        )?);
        Ok(wrapped)
    }

    fn unwrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        wrapped: &[u8],
        _: &[u8],
    ) -> Result<Secret, Failure> {
        let given = Self::decode(parameters)?;
        let key = private(key)?;
        let invalid = Failure::new(CKR_WRAPPED_KEY_INVALID);
        let (outer, inner) = wrapped
            .split_at_checked(key.bytes())
            .ok_or(Failure::new(CKR_WRAPPED_KEY_LEN_RANGE))?;
        let aes = key.decrypt_oaep(&given.oaep, outer).map_err(|_| invalid)?;
        if aes.len() != given.aes_bytes {
            return Err(invalid);
        }
        keywrap::unwrap_padded(&AesKey::new(aes.expose())?, &ICV, inner).map_err(|_| invalid)
    }
}
