//! CKK_EC: keys on P-256, P-384 and P-521, and for outside suites P-192. The vault stores the scalar.

use cryptoki_sys::*;

use super::{Key, octet_string, unwrap_octet_string};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::lc::ec;

/// The curve that CKA_EC_PARAMS names.
pub fn curve_of(attributes: &Attributes) -> Result<ec::Curve, Failure> {
    let parameters = attributes
        .get(CKA_EC_PARAMS)
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
    ec::Curve::ALL
        .into_iter()
        .chain([ec::Curve::P192])
        .find(|curve| curve.oid() == parameters)
        .ok_or(Failure::new(CKR_CURVE_NOT_SUPPORTED))
}

pub(super) fn private(attributes: &Attributes, scalar: &[u8]) -> Result<Key, Failure> {
    Ok(Key::EcPrivate(ec::PrivateKey::from_scalar(
        curve_of(attributes)?,
        scalar,
    )?))
}

pub(super) fn public(attributes: &Attributes) -> Result<Key, Failure> {
    let encoded = attributes
        .get(CKA_EC_POINT)
        .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
    let curve = curve_of(attributes)?;
    // Clients give the point as it is, or as the OCTET STRING that the standard wants.
    let key = ec::PublicKey::from_point(curve, encoded)
        .or_else(|_| ec::PublicKey::from_point(curve, unwrap_octet_string(encoded)))?;
    Ok(Key::EcPublic(key))
}

pub(super) fn attributes(curve: ec::Curve, point: &[u8]) -> Result<Attributes, Failure> {
    let mut attributes = Attributes::new();
    attributes.set_number(CKA_KEY_TYPE, CKK_EC);
    attributes.set(CKA_EC_PARAMS, curve.oid());
    attributes.set(CKA_EC_POINT, &octet_string(point));
    Ok(attributes)
}
