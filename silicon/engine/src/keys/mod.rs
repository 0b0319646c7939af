//! Keys as the mechanisms use them: parsed once, shared by all operations under way.

use cryptoki_sys::*;

use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::lc::{self, Secret, ec};
use crate::mechanisms::Made;

pub mod secret;

pub use secret::SecretKey;

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

impl Key {
    /// What the vault stores of a key: enough to make it again, with its public attributes. Public
    /// keys are made again from their attributes alone.
    pub fn stored(&self) -> Result<Secret, Failure> {
        match self {
            Self::EcPrivate(key) => Ok(key.scalar()?),
            Self::EcPublic(_) => Ok(Secret::zeroed(0)),
            Self::Secret(key) => Ok(key.value().clone()),
        }
    }

    /// A part of the key material as an attribute, for keys that may be read.
    pub fn material(&self, kind: u64) -> Option<Vec<u8>> {
        match (self, kind) {
            (Self::EcPrivate(key), CKA_VALUE) => {
                key.scalar().ok().map(|scalar| scalar.expose().to_vec())
            }
            (Self::Secret(key), CKA_VALUE) => Some(key.value().expose().to_vec()),
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
            (CKO_SECRET_KEY, _) => {
                if attributes.contains(CKA_VALUE_LEN) {
                    return Err(CKR_ATTRIBUTE_READ_ONLY.into());
                }
                let value = attributes
                    .remove(CKA_VALUE)
                    .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
                let made =
                    secret::made(key_type, Secret::from(value)).map_err(|failure| match failure
                        .code
                    {
                        CKR_KEY_SIZE_RANGE => CKR_ATTRIBUTE_VALUE_INVALID.into(),
                        _ => failure,
                    })?;
                made.attributes
                    .iter()
                    .for_each(|(kind, value)| attributes.set(kind, value));
                Ok(made.key)
            }
            _ => Err(CKR_TEMPLATE_INCONSISTENT.into()),
        }
    }

    /// The material as it is wrapped: the value of a secret key, PKCS#8 for a private one.
    pub fn wrappable(&self) -> Result<Secret, Failure> {
        match self {
            Self::Secret(key) => Ok(key.value().clone()),
            _ => Err(CKR_KEY_NOT_WRAPPABLE.into()),
        }
    }

    /// The key in unwrapped material.
    pub fn from_wrapped(
        class: CK_OBJECT_CLASS,
        key_type: CK_KEY_TYPE,
        template: &Attributes,
        material: Secret,
    ) -> Result<Made, Failure> {
        if class != CKO_SECRET_KEY {
            return Err(CKR_WRAPPED_KEY_INVALID.into());
        }
        // Mechanisms that cannot tell the length (padding with zeros) leave it to the template.
        let material = match template.number(CKA_VALUE_LEN)? {
            Some(length) => {
                let kept = usize::try_from(length)
                    .ok()
                    .and_then(|n| material.expose().get(..n));
                Secret::copy(kept.ok_or(Failure::new(CKR_TEMPLATE_INCONSISTENT))?)
            }
            None => material,
        };
        secret::made(key_type, material).map_err(|failure| match failure.code {
            CKR_KEY_SIZE_RANGE => CKR_WRAPPED_KEY_LEN_RANGE.into(),
            _ => failure,
        })
    }

    /// The key that a shared secret makes.
    pub fn from_shared(
        key_type: CK_KEY_TYPE,
        template: &Attributes,
        shared: &Secret,
    ) -> Result<Made, Failure> {
        secret::from_derived(key_type, template, shared)
    }

    /// Whether this private key belongs to that public one.
    pub fn is_pair_of(&self, public: &Key) -> bool {
        match (self, public) {
            (Self::EcPrivate(private), Self::EcPublic(public)) => private
                .public_point()
                .is_ok_and(|point| public.point().is_ok_and(|other| other == point)),
            _ => false,
        }
    }
}

impl From<lc::Error> for Failure {
    fn from(error: lc::Error) -> Self {
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
