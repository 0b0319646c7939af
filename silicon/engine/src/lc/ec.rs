//! Elliptic curves of FIPS 186-5 and SP 800-186: P-256, P-384, P-521; ECDSA and ECDH.

use super::der::{self, Reader};
use super::error::failed;
use super::{Error, Secret, pkcs8};
use aws_lc_sys::{
    BN_bin2bn, BN_bn2bin_padded, BN_clear_free, BN_free, EC_GROUP, EC_KEY, EC_KEY_check_fips,
    EC_KEY_free, EC_KEY_generate_key_fips, EC_KEY_get0_group, EC_KEY_get0_private_key,
    EC_KEY_get0_public_key, EC_KEY_new, EC_KEY_set_group, EC_KEY_set_private_key,
    EC_KEY_set_public_key, EC_POINT_free, EC_POINT_mul, EC_POINT_new, EC_POINT_oct2point,
    EC_POINT_point2oct, EC_group_p256, EC_group_p384, EC_group_p521, ECDH_compute_key,
    ECDSA_SIG_free, ECDSA_SIG_get0_r, ECDSA_SIG_get0_s, ECDSA_SIG_new, ECDSA_SIG_set0,
    ECDSA_do_sign, ECDSA_do_verify, point_conversion_form_t,
};

const UNCOMPRESSED: point_conversion_form_t =
    point_conversion_form_t::POINT_CONVERSION_UNCOMPRESSED;

/// A curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
    /// secp192r1, for outside suites only (`p192`).
    P192,
}

impl Curve {
    /// Those of FIPS 186-5.
    pub const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    /// Bytes of a coordinate or scalar.
    pub const fn bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
            Self::P192 => 24,
        }
    }

    /// Bits of the field.
    pub const fn bits(self) -> usize {
        match self {
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
            Self::P192 => 192,
        }
    }

    /// The named-curve OID, DER-encoded: CKA_EC_PARAMS.
    pub const fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
            Self::P192 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01],
        }
    }

    fn group(self) -> *const EC_GROUP {
        // SAFETY: these return static groups; null (P-192 only) fails where it is used.
        unsafe {
            match self {
                Self::P256 => EC_group_p256(),
                Self::P384 => EC_group_p384(),
                Self::P521 => EC_group_p521(),
                Self::P192 => super::p192::group(),
            }
        }
    }
}

/// An owned EC_KEY, with or without its private part.
#[derive(Debug)]
struct Handle(*mut EC_KEY);

// SAFETY: owned, and not changed after its making.
unsafe impl Send for Handle {}
// SAFETY: AWS-LC documents EC_KEY as safe for concurrent const use.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes the scalar.
        unsafe { EC_KEY_free(self.0) };
    }
}

impl Handle {
    fn new(curve: Curve) -> Result<Self, Error> {
        // SAFETY: a new key, owned by the handle; the group is static.
        unsafe {
            let key = Handle(EC_KEY_new());
            if key.0.is_null()
                || curve.group().is_null()
                || EC_KEY_set_group(key.0, curve.group()) != 1
            {
                return failed(Error::Internal);
            }
            Ok(key)
        }
    }

    fn set_point(&self, curve: Curve, encoded: &[u8]) -> Result<(), Error> {
        // SAFETY: the point is new, owned here and freed; oct2point refuses what is not on the curve.
        unsafe {
            let point = EC_POINT_new(curve.group());
            let fine = !point.is_null()
                && encoded.len() > 1
                && EC_POINT_oct2point(
                    curve.group(),
                    point,
                    encoded.as_ptr(),
                    encoded.len(),
                    std::ptr::null_mut(),
                ) == 1
                && EC_KEY_set_public_key(self.0, point) == 1;
            EC_POINT_free(point);
            if fine { Ok(()) } else { failed(Error::Key) }
        }
    }

    fn point(&self, form: point_conversion_form_t) -> Result<Vec<u8>, Error> {
        // SAFETY: reads the key; the buffer has room for the longest uncompressed point.
        unsafe {
            let mut out = vec![0u8; 1 + 2 * 66];
            let length = EC_POINT_point2oct(
                EC_KEY_get0_group(self.0),
                EC_KEY_get0_public_key(self.0),
                form,
                out.as_mut_ptr(),
                out.len(),
                std::ptr::null_mut(),
            );
            if length == 0 {
                return failed(Error::Internal);
            }
            out.truncate(length);
            Ok(out)
        }
    }
}

/// A private key, and its public one.
#[derive(Debug)]
pub struct PrivateKey {
    curve: Curve,
    key: Handle,
}

/// A public key.
#[derive(Debug)]
pub struct PublicKey {
    curve: Curve,
    key: Handle,
}

impl PrivateKey {
    /// A new key pair (FIPS 186-5, with a pairwise consistency test).
    pub fn generate(curve: Curve) -> Result<Self, Error> {
        let key = Handle::new(curve)?;
        // SAFETY: the key is ours and has its group.
        if unsafe { EC_KEY_generate_key_fips(key.0) } != 1 {
            return failed(Error::Internal);
        }
        Ok(Self { curve, key })
    }

    /// The key with this big-endian scalar, at most `curve.bytes()` long, in [1, n-1].
    pub fn from_scalar(curve: Curve, scalar: &[u8]) -> Result<Self, Error> {
        if scalar.is_empty() || scalar.len() > curve.bytes() {
            return Err(Error::Key);
        }
        let key = Handle::new(curve)?;
        // SAFETY: number and point are owned here and freed, the number wiped.
        unsafe {
            let number = BN_bin2bn(scalar.as_ptr(), scalar.len(), std::ptr::null_mut());
            let point = EC_POINT_new(curve.group());
            let fine = !number.is_null()
                && !point.is_null()
                && EC_KEY_set_private_key(key.0, number) == 1
                && EC_POINT_mul(
                    curve.group(),
                    point,
                    number,
                    std::ptr::null(),
                    std::ptr::null(),
                    std::ptr::null_mut(),
                ) == 1
                && EC_KEY_set_public_key(key.0, point) == 1
                && EC_KEY_check_fips(key.0) == 1;
            BN_clear_free(number);
            EC_POINT_free(point);
            if !fine {
                return failed(Error::Key);
            }
        }
        Ok(Self { curve, key })
    }

    /// Its curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The scalar, `curve.bytes()` long, big-endian.
    pub fn scalar(&self) -> Result<Secret, Error> {
        let mut out = Secret::zeroed(self.curve.bytes());
        // SAFETY: reads the key; the buffer is writable for its length.
        let done = unsafe {
            BN_bn2bin_padded(
                out.expose_mut().as_mut_ptr(),
                self.curve.bytes(),
                EC_KEY_get0_private_key(self.key.0),
            )
        };
        if done == 1 {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }

    /// The public point, uncompressed (SEC 1, section 2.3.3).
    pub fn public_point(&self) -> Result<Vec<u8>, Error> {
        self.key.point(UNCOMPRESSED)
    }

    /// Its public key.
    pub fn public(&self) -> Result<PublicKey, Error> {
        PublicKey::from_point(self.curve, &self.public_point()?)
    }

    /// The key with this scalar, which must belong to the public point (SEC 1, uncompressed or
    /// compressed).
    pub fn from_parts(curve: Curve, scalar: &[u8], point: &[u8]) -> Result<Self, Error> {
        let key = Self::from_scalar(curve, scalar)?;
        let public = PublicKey::from_point(curve, point)?;
        if public.point()? == key.public_point()? {
            Ok(key)
        } else {
            Err(Error::Key)
        }
    }

    /// The key of an ECPrivateKey (RFC 5915, SEC 1). The curve comes from around it, or from inside;
    /// where both name one, they must agree, and so must a public key.
    pub fn from_sec1(bytes: &[u8], curve: Option<Curve>) -> Result<Self, Error> {
        let mut outer = Reader::new(bytes, "the ECPrivateKey");
        let mut fields = outer.sequence()?;
        outer.finish()?;
        if fields.small()? != 1 {
            return Err(fields.malformed());
        }
        let scalar = fields.element(der::OCTET_STRING)?;
        let named = match fields.optional_within(der::constructed(0))? {
            Some(mut content) => {
                let curve = pkcs8::curve(&mut content)?;
                content.finish()?;
                Some(curve)
            }
            None => None,
        };
        let point = match fields.optional_within(der::constructed(1))? {
            Some(mut content) => {
                let point = content.bits()?;
                content.finish()?;
                Some(point)
            }
            None => None,
        };
        fields.finish()?;
        let curve = match (curve, named) {
            (Some(one), Some(other)) if one != other => return Err(Error::Key),
            (Some(curve), _) | (None, Some(curve)) => curve,
            (None, None) => return Err(outer.malformed()),
        };
        match point {
            Some(point) => Self::from_parts(curve, scalar, point),
            None => Self::from_scalar(curve, scalar),
        }
    }

    /// ECPrivateKey with curve and public key (RFC 5915, SEC 1).
    pub fn to_sec1(&self) -> Result<Secret, Error> {
        self.sec1(true)
    }

    fn sec1(&self, with_curve: bool) -> Result<Secret, Error> {
        let scalar = der::element(der::OCTET_STRING, &[self.scalar()?.expose()]);
        let curve = der::element(der::constructed(0), &[self.curve.oid()]);
        let point = self.public_point()?;
        let bits = der::element(der::BIT_STRING, &[&[0], &point]);
        let point = der::element(der::constructed(1), &[bits.expose()]);
        let curve = if with_curve { curve.expose() } else { &[] };
        let version = [der::INTEGER, 1, 1];
        let parts: [&[u8]; 4] = [&version, scalar.expose(), curve, point.expose()];
        Ok(der::element(der::SEQUENCE, &parts))
    }

    /// PKCS #8, with the public key.
    pub fn to_pkcs8(&self) -> Result<Secret, Error> {
        Ok(pkcs8::private_ec(self.curve, self.sec1(false)?.expose()))
    }

    /// ECDSA over a digest (longer ones are cut as FIPS 186-5 says): r || s, 2 * `curve.bytes()`.
    pub fn sign(&self, digest: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let half = self.curve.bytes();
        let Some((r, s)) = out.get_mut(..2 * half).map(|out| out.split_at_mut(half)) else {
            return Err(Error::TooSmall(2 * half));
        };
        // SAFETY: the digest comes with its length; the signature is owned here and freed; both
        // halves are writable for `half` bytes.
        unsafe {
            let signature = ECDSA_do_sign(digest.as_ptr(), digest.len(), self.key.0);
            if signature.is_null() {
                return failed(Error::Internal);
            }
            let done = BN_bn2bin_padded(r.as_mut_ptr(), half, ECDSA_SIG_get0_r(signature)) == 1
                && BN_bn2bin_padded(s.as_mut_ptr(), half, ECDSA_SIG_get0_s(signature)) == 1;
            ECDSA_SIG_free(signature);
            if done {
                Ok(2 * half)
            } else {
                failed(Error::Internal)
            }
        }
    }

    /// ECDH: the x coordinate of the shared point, `curve.bytes()` long.
    pub fn agree(&self, peer: &PublicKey) -> Result<Secret, Error> {
        if peer.curve != self.curve {
            return Err(Error::Key);
        }
        let mut out = Secret::zeroed(self.curve.bytes());
        // SAFETY: reads both keys; the buffer is writable for its length.
        let length = unsafe {
            ECDH_compute_key(
                out.expose_mut().as_mut_ptr().cast(),
                self.curve.bytes(),
                EC_KEY_get0_public_key(peer.key.0),
                self.key.0,
                None,
            )
        };
        if usize::try_from(length) == Ok(self.curve.bytes()) {
            Ok(out)
        } else {
            failed(Error::Key)
        }
    }
}

impl PublicKey {
    /// The key with this point (SEC 1, uncompressed or compressed), which must be on the curve.
    pub fn from_point(curve: Curve, encoded: &[u8]) -> Result<Self, Error> {
        let key = Handle::new(curve)?;
        key.set_point(curve, encoded)?;
        Ok(Self { curve, key })
    }

    /// Its curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The point, uncompressed.
    pub fn point(&self) -> Result<Vec<u8>, Error> {
        self.key.point(UNCOMPRESSED)
    }

    /// The point, compressed.
    pub fn compressed(&self) -> Result<Vec<u8>, Error> {
        self.key
            .point(point_conversion_form_t::POINT_CONVERSION_COMPRESSED)
    }

    /// SubjectPublicKeyInfo (RFC 5480).
    pub fn to_spki(&self) -> Result<Vec<u8>, Error> {
        Ok(pkcs8::public_ec(self.curve, &self.point()?))
    }

    /// Verifies r || s over a digest.
    pub fn verify(&self, digest: &[u8], signature: &[u8]) -> Result<(), Error> {
        let half = self.curve.bytes();
        if signature.len() != 2 * half {
            return Err(Error::Signature);
        }
        let (r, s) = signature.split_at(half);
        // SAFETY: numbers and signature are owned here; set0 takes the numbers over when it succeeds.
        unsafe {
            let parsed = ECDSA_SIG_new();
            let r = BN_bin2bn(r.as_ptr(), half, std::ptr::null_mut());
            let s = BN_bin2bn(s.as_ptr(), half, std::ptr::null_mut());
            if parsed.is_null() || r.is_null() || s.is_null() || ECDSA_SIG_set0(parsed, r, s) != 1 {
                BN_free(r);
                BN_free(s);
                ECDSA_SIG_free(parsed);
                return failed(Error::Internal);
            }
            let valid = ECDSA_do_verify(digest.as_ptr(), digest.len(), parsed, self.key.0) == 1;
            ECDSA_SIG_free(parsed);
            if valid {
                Ok(())
            } else {
                failed(Error::Signature)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::digest::{Hash, digest};
    use crate::lc::{Input, hex};

    /// RFC 6979, section A.2.5: key and signature of "sample" with SHA-256.
    #[test]
    fn a_known_answer_holds() {
        let scalar = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
        let point = hex(
            "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
        );
        let key = PrivateKey::from_parts(Curve::P256, &scalar, &point).unwrap();
        let value = digest(Hash::Sha256, Input::new(b"sample")).unwrap();
        let signature = hex(
            "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
        );
        key.public().unwrap().verify(&value, &signature).unwrap();
    }

    #[test]
    fn encodings_come_back_and_their_parts_must_agree() {
        for curve in Curve::ALL {
            let key = PrivateKey::generate(curve).unwrap();
            let public = key.public().unwrap();
            let short = public.compressed().unwrap();
            assert_eq!(short.len(), 1 + curve.bytes());
            let again = PublicKey::from_point(curve, &short).unwrap();
            assert_eq!(again.point().unwrap(), public.point().unwrap());

            let (with, without) = (key.sec1(true).unwrap(), key.sec1(false).unwrap());
            for other in Curve::ALL {
                for bytes in [&with, &without] {
                    let parsed = PrivateKey::from_sec1(bytes.expose(), Some(other));
                    assert_eq!(parsed.is_ok(), other == curve);
                }
            }
            assert!(PrivateKey::from_sec1(with.expose(), None).is_ok());
            assert!(PrivateKey::from_sec1(without.expose(), None).is_err());

            let scalar = key.scalar().unwrap();
            let stranger = PrivateKey::generate(curve).unwrap().public_point().unwrap();
            let wrong = PrivateKey::from_parts(curve, scalar.expose(), &stranger);
            assert_eq!(wrong.unwrap_err(), Error::Key);
        }
    }

    #[test]
    fn keys_sign_agree_and_come_back_from_their_scalars() {
        for curve in Curve::ALL {
            let key = PrivateKey::generate(curve).unwrap();
            let again = PrivateKey::from_scalar(curve, key.scalar().unwrap().expose()).unwrap();
            assert_eq!(again.public_point().unwrap(), key.public_point().unwrap());
            let public = PublicKey::from_point(curve, &key.public_point().unwrap()).unwrap();
            let mut signature = vec![0; 2 * curve.bytes()];
            key.sign(&[7; 32], &mut signature).unwrap();
            public.verify(&[7; 32], &signature).unwrap();
            assert_eq!(public.verify(&[8; 32], &signature), Err(Error::Signature));
            signature[3] ^= 1;
            assert_eq!(public.verify(&[7; 32], &signature), Err(Error::Signature));
            let other = PrivateKey::generate(curve).unwrap();
            let other_public =
                PublicKey::from_point(curve, &other.public_point().unwrap()).unwrap();
            assert_eq!(
                key.agree(&other_public).unwrap().expose(),
                other.agree(&public).unwrap().expose()
            );
        }
    }

    #[test]
    fn bad_scalars_and_points_are_refused() {
        for curve in Curve::ALL {
            assert!(PrivateKey::from_scalar(curve, &vec![0; curve.bytes()]).is_err());
            assert!(PrivateKey::from_scalar(curve, &vec![0xff; curve.bytes()]).is_err());
            let mut point = PrivateKey::generate(curve).unwrap().public_point().unwrap();
            *point.last_mut().unwrap() ^= 1;
            assert!(PublicKey::from_point(curve, &point).is_err());
            assert!(PublicKey::from_point(curve, &[0]).is_err());
            assert!(PublicKey::from_point(curve, &[]).is_err());
        }
    }
}
