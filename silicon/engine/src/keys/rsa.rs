//! CKK_RSA. The vault stores PKCS#1's RSAPrivateKey.

use cryptoki_sys::*;

use super::Key;
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::lc::{Secret, rsa};

pub(super) fn private(stored: &[u8]) -> Result<Key, Failure> {
    Ok(Key::RsaPrivate(rsa::PrivateKey::from_pkcs1(stored)?))
}

pub(super) fn public(attributes: &Attributes) -> Result<Key, Failure> {
    let get = |kind| {
        attributes
            .get(kind)
            .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))
    };
    let key = rsa::PublicKey::from_components(get(CKA_MODULUS)?, get(CKA_PUBLIC_EXPONENT)?)?;
    Ok(Key::RsaPublic(key))
}

/// A private key from a template: n and d at least, the public exponent where there is no p and q.
pub(super) fn import(attributes: &mut Attributes) -> Result<Key, Failure> {
    let incomplete = Failure::new(CKR_TEMPLATE_INCOMPLETE);
    let mut take = |kind| attributes.remove(kind).map(Secret::from);
    let d = take(CKA_PRIVATE_EXPONENT).ok_or(incomplete)?;
    let [p, q, dp, dq, qinv] = [
        CKA_PRIME_1,
        CKA_PRIME_2,
        CKA_EXPONENT_1,
        CKA_EXPONENT_2,
        CKA_COEFFICIENT,
    ]
    .map(&mut take);
    let n = attributes.get(CKA_MODULUS).ok_or(incomplete)?.to_vec();
    let e = attributes
        .get(CKA_PUBLIC_EXPONENT)
        .unwrap_or(&[1, 0, 1])
        .to_vec();
    let key = match (p, q, dp, dq, qinv) {
        (Some(p), Some(q), Some(dp), Some(dq), Some(qinv)) => {
            let primes = rsa::Primes { p, q, dp, dq, qinv };
            rsa::PrivateKey::from_components(&rsa::Components { n, e, d, primes })?
        }
        (Some(p), Some(q), ..) => {
            rsa::PrivateKey::from_exponents(&n, &e, d.expose(), Some((p.expose(), q.expose())))?
        }
        _ => rsa::PrivateKey::from_exponents(&n, &e, d.expose(), None)?,
    };
    Ok(Key::RsaPrivate(key))
}

/// One of the numbers of a private key.
pub(super) fn material(key: &rsa::PrivateKey, kind: u64) -> Option<Secret> {
    let components = key.components().ok()?;
    let primes = components.primes;
    Some(match kind {
        CKA_PRIVATE_EXPONENT => components.d,
        CKA_PRIME_1 => primes.p,
        CKA_PRIME_2 => primes.q,
        CKA_EXPONENT_1 => primes.dp,
        CKA_EXPONENT_2 => primes.dq,
        CKA_COEFFICIENT => primes.qinv,
        _ => return None,
    })
}

pub(super) fn attributes(modulus: &[u8], exponent: &[u8], public: bool) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.set_number(CKA_KEY_TYPE, CKK_RSA);
    attributes.set(CKA_MODULUS, modulus);
    attributes.set(CKA_PUBLIC_EXPONENT, exponent);
    if public {
        attributes.set_number(CKA_MODULUS_BITS, (modulus.len() * 8) as u64);
    }
    attributes
}
