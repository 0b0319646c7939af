//! Keys as the mechanisms use them: parsed once, shared by all operations under way.

use cryptoki_sys::{
    CK_KEY_TYPE, CK_OBJECT_CLASS, CKA_EC_PARAMS, CKA_EC_POINT, CKA_VALUE, CKK_EC, CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY, CKO_SECRET_KEY, CKR_ATTRIBUTE_VALUE_INVALID, CKR_DOMAIN_PARAMS_INVALID,
    CKR_KEY_TYPE_INCONSISTENT, CKR_TEMPLATE_INCOMPLETE,
};

use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::lc::{self, Secret, ec};

/// A key of any kind.
#[derive(Debug)]
pub enum Key {
    /// A private key on a NIST curve.
    EcPrivate(ec::PrivateKey),
    /// A public key on a NIST curve.
    EcPublic(ec::PublicKey),
    /// A secret key: its value.
    Secret(SecretKey),
}

/// A secret key, with what mechanisms precompute from it.
#[derive(Debug)]
pub struct SecretKey {
    value: Secret,
}

impl SecretKey {
    /// The key with this value.
    pub fn new(value: Secret) -> Self {
        Self { value }
    }

    /// The value, for mechanisms.
    pub fn value(&self) -> &Secret {
        &self.value
    }
}

impl Key {
    /// What the vault stores of a key: enough to make it again, with its public attributes. Public
    /// keys are made again from their attributes alone.
    pub fn stored(&self) -> Result<Secret, Failure> {
        match self {
            Self::EcPrivate(key) => Ok(key.scalar()?),
            Self::EcPublic(_) => Ok(Secret::zeroed(0)),
            Self::Secret(key) => Ok(key.value.clone()),
        }
    }

    /// A part of the key material as an attribute, for keys that may be read.
    pub fn material(&self, kind: u64) -> Option<Vec<u8>> {
        match (self, kind) {
            (Self::EcPrivate(key), CKA_VALUE) => {
                key.scalar().ok().map(|scalar| scalar.expose().to_vec())
            }
            (Self::Secret(key), CKA_VALUE) => Some(key.value.expose().to_vec()),
            _ => None,
        }
    }

    /// The key of a stored object.
    pub fn from_stored(
        class: CK_OBJECT_CLASS,
        key_type: CK_KEY_TYPE,
        attributes: &Attributes,
        stored: &[u8],
    ) -> Result<Self, Failure> {
        match (class, key_type) {
            (CKO_PRIVATE_KEY, CKK_EC) => Ok(Self::EcPrivate(ec::PrivateKey::from_scalar(
                curve_of(attributes)?,
                stored,
            )?)),
            (CKO_PUBLIC_KEY, CKK_EC) => Self::ec_public(attributes),
            (CKO_SECRET_KEY, _) => Ok(Self::Secret(SecretKey::new(Secret::copy(stored)))),
            _ => Err(CKR_KEY_TYPE_INCONSISTENT.into()),
        }
    }

    fn ec_public(attributes: &Attributes) -> Result<Self, Failure> {
        let encoded = attributes
            .get(CKA_EC_POINT)
            .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
        let curve = curve_of(attributes)?;
        let public = ec::PublicKey::from_point(curve, unwrap_octet_string(encoded))
            .map_err(|_| Failure::new(CKR_ATTRIBUTE_VALUE_INVALID))?;
        Ok(Self::EcPublic(public))
    }

    /// Takes the key material of a template (C_CreateObject) out of it and makes the key; what
    /// follows from the material is set in the attributes.
    pub fn import(
        class: CK_OBJECT_CLASS,
        key_type: CK_KEY_TYPE,
        attributes: &mut Attributes,
    ) -> Result<Self, Failure> {
        match (class, key_type) {
            (CKO_PRIVATE_KEY, CKK_EC) => {
                let curve = curve_of(attributes)?;
                let value = attributes
                    .remove(CKA_VALUE)
                    .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
                let value = Secret::from(value);
                let key = ec::PrivateKey::from_scalar(curve, value.expose())
                    .map_err(|_| Failure::new(CKR_ATTRIBUTE_VALUE_INVALID))?;
                Ok(Self::EcPrivate(key))
            }
            (CKO_PUBLIC_KEY, CKK_EC) => Self::ec_public(attributes),
            _ => Err(CKR_KEY_TYPE_INCONSISTENT.into()),
        }
    }
}

impl From<lc::Error> for Failure {
    fn from(error: lc::Error) -> Self {
        use cryptoki_sys::{
            CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID, CKR_KEY_SIZE_RANGE,
            CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID, CKR_SIGNATURE_INVALID,
        };
        match error {
            lc::Error::Key | lc::Error::Encoding => CKR_ATTRIBUTE_VALUE_INVALID.into(),
            lc::Error::Size => CKR_KEY_SIZE_RANGE.into(),
            lc::Error::Parameter => CKR_MECHANISM_PARAM_INVALID.into(),
            lc::Error::DataLength => CKR_DATA_LEN_RANGE.into(),
            lc::Error::Decrypt => CKR_ENCRYPTED_DATA_INVALID.into(),
            lc::Error::Signature => CKR_SIGNATURE_INVALID.into(),
            lc::Error::TooSmall(needed) => Failure::too_small(needed),
            lc::Error::Unsupported(_) => CKR_MECHANISM_INVALID.into(),
            lc::Error::Internal => Failure::internal(),
        }
    }
}

/// The curve that CKA_EC_PARAMS names.
pub fn curve_of(attributes: &Attributes) -> Result<ec::Curve, Failure> {
    let parameters = attributes
        .get(CKA_EC_PARAMS)
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
    ec::Curve::ALL
        .into_iter()
        .find(|curve| curve.oid() == parameters)
        .ok_or(Failure::new(CKR_DOMAIN_PARAMS_INVALID))
}

/// A DER OCTET STRING around these bytes.
pub fn octet_string(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x04];
    match u8::try_from(bytes.len()) {
        Ok(length) if length < 0x80 => out.push(length),
        Ok(length) => out.extend_from_slice(&[0x81, length]),
        Err(_) => {
            out.push(0x82);
            out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
    out
}

/// The content of a DER OCTET STRING, or the bytes themselves where they are none: clients give
/// points both ways.
pub fn unwrap_octet_string(bytes: &[u8]) -> &[u8] {
    let content = match bytes {
        [0x04, length, rest @ ..] if *length < 0x80 && usize::from(*length) == rest.len() => {
            Some(rest)
        }
        [0x04, 0x81, length, rest @ ..]
            if *length >= 0x80 && usize::from(*length) == rest.len() =>
        {
            Some(rest)
        }
        _ => None,
    };
    content.unwrap_or(bytes)
}
