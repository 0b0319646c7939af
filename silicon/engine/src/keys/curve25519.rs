//! CKK_EC_EDWARDS and CKK_EC_MONTGOMERY: Ed25519, X25519, and for outside suites Ed448. The vault
//! stores the private bytes.
//!
//! CKA_EC_PARAMS is the curve's name as a PrintableString or the algorithm's OID (RFC 8410), and is
//! kept as the caller wrote it; CKA_EC_POINT is the public bytes as they are (PKCS#11 3.2, section
//! 6.3.5), taken also as an OCTET STRING.

use cryptoki_sys::*;

use super::unwrap_point;
use crate::attributes::Attributes;
use crate::failure::Failure;

/// Which curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// edwards25519: signatures.
    Edwards,
    /// edwards448: signatures.
    Ed448,
    /// curve25519: agreement.
    Montgomery,
}

impl Form {
    const fn names(self) -> [&'static [u8]; 2] {
        match self {
            Self::Edwards => [b"\x06\x03\x2b\x65\x70", b"\x13\x0cedwards25519"],
            Self::Ed448 => [b"\x06\x03\x2b\x65\x71", b"\x13\x0aedwards448"],
            Self::Montgomery => [b"\x06\x03\x2b\x65\x6e", b"\x13\x0acurve25519"],
        }
    }

    const fn key_type(self) -> CK_KEY_TYPE {
        match self {
            Self::Edwards | Self::Ed448 => CKK_EC_EDWARDS,
            Self::Montgomery => CKK_EC_MONTGOMERY,
        }
    }

    /// Fails unless CKA_EC_PARAMS names this curve.
    pub fn require(self, attributes: &Attributes) -> Result<(), Failure> {
        match attributes.get(CKA_EC_PARAMS) {
            None => Err(CKR_TEMPLATE_INCOMPLETE.into()),
            Some(name) if self.names().contains(&name) => Ok(()),
            Some(_) => Err(CKR_CURVE_NOT_SUPPORTED.into()),
        }
    }
}

pub(super) fn point<const N: usize>(
    attributes: &Attributes,
    form: Form,
) -> Result<[u8; N], Failure> {
    form.require(attributes)?;
    let encoded = attributes
        .get(CKA_EC_POINT)
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
    unwrap_point(encoded, N)
        .try_into()
        .map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID.into())
}

/// What follows from the public bytes. The curve's name stays as the template has it.
pub(super) fn attributes(form: Form, public: &[u8]) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.set_number(CKA_KEY_TYPE, form.key_type());
    attributes.set(CKA_EC_POINT, public);
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These 32 bytes are also a well-formed OCTET STRING of 30.
    #[test]
    fn a_point_that_looks_like_an_octet_string_is_a_point() {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&[0x04, 30]);
        for form in [Form::Edwards, Form::Montgomery] {
            let mut attributes = Attributes::new();
            attributes.set(CKA_EC_PARAMS, form.names()[0]);
            for encoded in [bytes.to_vec(), super::super::octet_string(&bytes)] {
                attributes.set(CKA_EC_POINT, &encoded);
                assert_eq!(point::<32>(&attributes, form).unwrap(), bytes);
            }
        }
    }
}
