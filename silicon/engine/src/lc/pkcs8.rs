//! Private keys in PKCS #8 (RFC 5958) and public keys in SubjectPublicKeyInfo (RFC 5280), both ways.
//!
//! One function each finds out the kind of key and checks it: RSA (RFC 8017), the NIST curves
//! (RFC 5915), Ed25519 and X25519 (RFC 8410), ML-DSA (RFC 9881) and ML-KEM (RFC 9935).

use super::der::{self, Reader, constructed, primitive};
use super::secret::constant_time_equal;
use super::{Error, Secret, ec, edwards, mldsa, mlkem, montgomery, rsa};

const PRIVATE: &str = "the PKCS #8 private key";
/// id-ecPublicKey.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// A private key of any kind.
#[derive(Debug)]
pub enum PrivateKey {
    /// RSA.
    Rsa(rsa::PrivateKey),
    /// A NIST curve.
    Ec(ec::PrivateKey),
    /// Ed25519.
    Ed25519(edwards::PrivateKey),
    /// X25519.
    X25519(montgomery::PrivateKey),
    /// ML-DSA.
    MlDsa(mldsa::PrivateKey),
    /// ML-KEM.
    MlKem(mlkem::PrivateKey),
}

/// A public key of any kind.
#[derive(Debug)]
pub enum PublicKey {
    /// RSA.
    Rsa(rsa::PublicKey),
    /// A NIST curve.
    Ec(ec::PublicKey),
    /// Ed25519.
    Ed25519([u8; edwards::PUBLIC]),
    /// X25519.
    X25519([u8; montgomery::BYTES]),
    /// ML-DSA.
    MlDsa(mldsa::PublicKey),
    /// ML-KEM.
    MlKem(mlkem::PublicKey),
}

impl PrivateKey {
    /// PKCS #8. Post-quantum keys are written as their seeds.
    pub fn to_pkcs8(&self) -> Result<Secret, Error> {
        match self {
            Self::Rsa(key) => key.to_pkcs8(),
            Self::Ec(key) => key.to_pkcs8(),
            Self::Ed25519(key) => Ok(key.to_pkcs8()),
            Self::X25519(key) => Ok(key.to_pkcs8()),
            Self::MlDsa(key) => Ok(key.to_pkcs8()),
            Self::MlKem(key) => Ok(key.to_pkcs8()),
        }
    }

    /// Its public key.
    pub fn public(&self) -> Result<PublicKey, Error> {
        Ok(match self {
            Self::Rsa(key) => PublicKey::Rsa(key.public()?),
            Self::Ec(key) => PublicKey::Ec(key.public()?),
            Self::Ed25519(key) => PublicKey::Ed25519(key.public_key()),
            Self::X25519(key) => PublicKey::X25519(key.public_key()),
            Self::MlDsa(key) => {
                PublicKey::MlDsa(mldsa::PublicKey::new(key.level(), &key.public_key()?)?)
            }
            Self::MlKem(key) => {
                PublicKey::MlKem(mlkem::PublicKey::new(key.level(), &key.public_key()?)?)
            }
        })
    }
}

impl PublicKey {
    /// SubjectPublicKeyInfo.
    pub fn to_spki(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Rsa(key) => key.to_spki(),
            Self::Ec(key) => key.to_spki(),
            Self::Ed25519(key) => Ok(edwards::to_spki(key)),
            Self::X25519(key) => Ok(montgomery::to_spki(key)),
            Self::MlDsa(key) => key.to_spki(),
            Self::MlKem(key) => key.to_spki(),
        }
    }
}

/// PrivateKeyInfo, version 0: the algorithm (OID content, encoded parameters) and the key's octets.
pub(super) fn private_key_info(oid: &[u8], parameters: &[u8], key: &[u8]) -> Secret {
    let algorithm = algorithm(oid, parameters);
    let octets = der::element(der::OCTET_STRING, &[key]);
    let version = [der::INTEGER, 1, 0];
    der::element(
        der::SEQUENCE,
        &[&version, algorithm.expose(), octets.expose()],
    )
}

/// PrivateKeyInfo of a key that is an OCTET STRING itself.
pub(super) fn private_octets(oid: &[u8], key: &[u8]) -> Secret {
    let inner = der::element(der::OCTET_STRING, &[key]);
    private_key_info(oid, &[], inner.expose())
}

/// PrivateKeyInfo of a post-quantum key: its seed.
pub(super) fn private_seed(oid: &[u8], seed: &Secret) -> Secret {
    let inner = der::element(primitive(0), &[seed.expose()]);
    private_key_info(oid, &[], inner.expose())
}

/// PrivateKeyInfo on a NIST curve, around an ECPrivateKey.
pub(super) fn private_ec(curve: ec::Curve, key: &[u8]) -> Secret {
    private_key_info(EC, curve.oid(), key)
}

/// SubjectPublicKeyInfo on a NIST curve.
pub(super) fn public_ec(curve: ec::Curve, point: &[u8]) -> Vec<u8> {
    public_key_info(EC, curve.oid(), point)
}

/// SubjectPublicKeyInfo: the algorithm (OID content, encoded parameters) and the key's bits.
pub(super) fn public_key_info(oid: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = algorithm(oid, parameters);
    let bits = der::element(der::BIT_STRING, &[&[0], key]);
    let whole = der::element(der::SEQUENCE, &[algorithm.expose(), bits.expose()]);
    whole.expose().to_vec()
}

fn algorithm(oid: &[u8], parameters: &[u8]) -> Secret {
    let oid = der::element(der::OBJECT_IDENTIFIER, &[oid]);
    der::element(der::SEQUENCE, &[oid.expose(), parameters])
}

/// An AlgorithmIdentifier: the OID's content and the parameters.
struct Algorithm<'a> {
    oid: &'a [u8],
    parameters: Reader<'a>,
}

impl<'a> Algorithm<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut parameters = reader.sequence()?;
        Ok(Self {
            oid: parameters.element(der::OBJECT_IDENTIFIER)?,
            parameters,
        })
    }

    /// For keys whose parameters are absent.
    fn none(self) -> Result<(), Error> {
        self.parameters.finish()
    }

    /// For RSA: NULL, or absent where a writer forgot it.
    fn null(mut self) -> Result<(), Error> {
        match self.parameters.optional(der::NULL)? {
            None | Some([]) => self.parameters.finish(),
            Some(_) => Err(self.parameters.malformed()),
        }
    }

    fn curve(mut self) -> Result<ec::Curve, Error> {
        let curve = curve(&mut self.parameters)?;
        self.parameters.finish()?;
        Ok(curve)
    }
}

/// The named curve that comes next.
pub(super) fn curve(reader: &mut Reader<'_>) -> Result<ec::Curve, Error> {
    if reader.peek() != Some(der::OBJECT_IDENTIFIER) {
        return Err(Error::Unsupported("a curve of explicit parameters"));
    }
    let name = reader.element(der::OBJECT_IDENTIFIER)?;
    ec::Curve::ALL
        .into_iter()
        .find(|curve| curve.oid().get(2..) == Some(name))
        .ok_or(Error::Unsupported("a curve of this name"))
}

/// The key in a PKCS #8 structure (PrivateKeyInfo or OneAsymmetricKey). A public key that stands
/// beside it must be its own.
pub fn parse_private_key(bytes: &[u8]) -> Result<PrivateKey, Error> {
    let mut outer = Reader::new(bytes, PRIVATE);
    let mut fields = outer.sequence()?;
    outer.finish()?;
    let version = fields.small()?;
    let algorithm = Algorithm::read(&mut fields)?;
    let octets = fields.element(der::OCTET_STRING)?;
    fields.optional(constructed(0))?;
    let public = fields
        .optional(primitive(1))?
        .map(|content| der::bits(content).ok_or(outer.malformed()))
        .transpose()?;
    fields.finish()?;
    if version > 1 || (version == 0 && public.is_some()) {
        return Err(Error::Encoding(PRIVATE));
    }
    let key = private_of(algorithm, octets)?;
    match public {
        Some(public) if !is_public(&key, public)? => Err(Error::Key),
        _ => Ok(key),
    }
}

fn private_of(algorithm: Algorithm<'_>, octets: &[u8]) -> Result<PrivateKey, Error> {
    if let Some(level) = mldsa::Level::of(algorithm.oid) {
        algorithm.none()?;
        return mldsa::PrivateKey::from_choice(level, octets).map(PrivateKey::MlDsa);
    }
    if let Some(level) = mlkem::Level::of(algorithm.oid) {
        algorithm.none()?;
        return mlkem::PrivateKey::from_choice(level, octets).map(PrivateKey::MlKem);
    }
    match algorithm.oid {
        rsa::OID => {
            algorithm.null()?;
            rsa::PrivateKey::from_pkcs1(octets).map(PrivateKey::Rsa)
        }
        EC => {
            let curve = algorithm.curve()?;
            ec::PrivateKey::from_sec1(octets, Some(curve)).map(PrivateKey::Ec)
        }
        edwards::OID => {
            algorithm.none()?;
            edwards::PrivateKey::from_seed(inner(octets)?).map(PrivateKey::Ed25519)
        }
        montgomery::OID => {
            algorithm.none()?;
            montgomery::PrivateKey::new(inner(octets)?).map(PrivateKey::X25519)
        }
        _ => Err(Error::Unsupported("a key of this algorithm")),
    }
}

fn inner(octets: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(octets, PRIVATE);
    let key = reader.element(der::OCTET_STRING)?;
    reader.finish()?;
    Ok(key)
}

/// Whether these bits, as a SubjectPublicKeyInfo would hold them, are the key's public ones.
fn is_public(key: &PrivateKey, bits: &[u8]) -> Result<bool, Error> {
    Ok(match key.public()? {
        PublicKey::Rsa(public) => public.to_pkcs1()? == bits,
        PublicKey::Ec(public) => {
            ec::PublicKey::from_point(public.curve(), bits)?.point()? == public.point()?
        }
        PublicKey::Ed25519(public) => public == bits,
        PublicKey::X25519(public) => public == bits,
        PublicKey::MlDsa(public) => public.raw()? == bits,
        PublicKey::MlKem(public) => public.raw()? == bits,
    })
}

/// What RFC 9881 and RFC 9935 allow as a private key.
pub(super) enum Choice<'a> {
    /// The seed alone.
    Seed(&'a [u8]),
    /// The expanded key alone.
    Expanded,
    /// Both, which must belong together.
    Both(&'a [u8], &'a [u8]),
}

impl<'a> Choice<'a> {
    /// The seed.
    pub(super) fn seed(&self) -> Result<&'a [u8], Error> {
        match self {
            Self::Seed(seed) | Self::Both(seed, _) => Ok(seed),
            Self::Expanded => Err(Error::Unsupported("a post-quantum key without its seed")),
        }
    }

    /// That an expanded key beside the seed is the one that the seed makes.
    pub(super) fn check(
        &self,
        expand: impl FnOnce() -> Result<Secret, Error>,
    ) -> Result<(), Error> {
        match self {
            Self::Both(_, expanded) if !constant_time_equal(expand()?.expose(), expanded) => {
                Err(Error::Key)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn read(octets: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(octets, PRIVATE);
        let choice = match reader.any()? {
            (tag, seed) if tag == primitive(0) => Self::Seed(seed),
            (der::OCTET_STRING, _) => Self::Expanded,
            (der::SEQUENCE, both) => {
                let mut both = Reader::new(both, PRIVATE);
                let choice = Self::Both(
                    both.element(der::OCTET_STRING)?,
                    both.element(der::OCTET_STRING)?,
                );
                both.finish()?;
                choice
            }
            _ => return Err(Error::Encoding(PRIVATE)),
        };
        reader.finish()?;
        Ok(choice)
    }
}

/// The key in a SubjectPublicKeyInfo.
pub fn parse_public_key(bytes: &[u8]) -> Result<PublicKey, Error> {
    let mut outer = Reader::new(bytes, "the SubjectPublicKeyInfo");
    let mut fields = outer.sequence()?;
    outer.finish()?;
    let algorithm = Algorithm::read(&mut fields)?;
    let bits = fields.bits()?;
    fields.finish()?;
    if let Some(level) = mldsa::Level::of(algorithm.oid) {
        algorithm.none()?;
        return mldsa::PublicKey::new(level, bits).map(PublicKey::MlDsa);
    }
    if let Some(level) = mlkem::Level::of(algorithm.oid) {
        algorithm.none()?;
        return mlkem::PublicKey::new(level, bits).map(PublicKey::MlKem);
    }
    match algorithm.oid {
        rsa::OID => {
            algorithm.null()?;
            rsa::PublicKey::from_pkcs1(bits).map(PublicKey::Rsa)
        }
        EC => ec::PublicKey::from_point(algorithm.curve()?, bits).map(PublicKey::Ec),
        edwards::OID => {
            algorithm.none()?;
            bits.try_into()
                .map(PublicKey::Ed25519)
                .map_err(|_| Error::Key)
        }
        montgomery::OID => {
            algorithm.none()?;
            bits.try_into()
                .map(PublicKey::X25519)
                .map_err(|_| Error::Key)
        }
        _ => Err(Error::Unsupported("a key of this algorithm")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;
    use proptest::prelude::*;
    use std::sync::OnceLock;

    /// One key of each kind in PKCS #8.
    fn keys() -> &'static Vec<Vec<u8>> {
        static KEYS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        KEYS.get_or_init(|| {
            let mut keys = vec![
                PrivateKey::Rsa(rsa::PrivateKey::generate(1024, &rsa::E_65537, true).unwrap()),
                PrivateKey::Ed25519(edwards::PrivateKey::from_seed(&[1; 32]).unwrap()),
                PrivateKey::X25519(montgomery::PrivateKey::new(&[2; 32]).unwrap()),
            ];
            for curve in ec::Curve::ALL {
                keys.push(PrivateKey::Ec(ec::PrivateKey::generate(curve).unwrap()));
            }
            for level in mldsa::Level::ALL {
                let key = mldsa::PrivateKey::from_seed(level, &[3; 32]).unwrap();
                keys.push(PrivateKey::MlDsa(key));
            }
            for level in mlkem::Level::ALL {
                let key = mlkem::PrivateKey::from_seed(level, &[4; 64]).unwrap();
                keys.push(PrivateKey::MlKem(key));
            }
            keys.iter()
                .map(|key| key.to_pkcs8().unwrap().expose().to_vec())
                .collect()
        })
    }

    #[test]
    fn every_key_comes_back() {
        for bytes in keys() {
            let key = parse_private_key(bytes).unwrap();
            assert_eq!(key.to_pkcs8().unwrap().expose(), &bytes[..]);
            let spki = key.public().unwrap().to_spki().unwrap();
            assert_eq!(parse_public_key(&spki).unwrap().to_spki().unwrap(), spki);
            for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                assert!(parse_private_key(&bytes[..cut]).is_err());
            }
            assert!(parse_private_key(&[&bytes[..], &[0]].concat()).is_err());
            assert!(parse_public_key(&[&spki[..], &[0]].concat()).is_err());
        }
    }

    /// RFC 8410, section 10.3: the second form carries attributes and the public key.
    #[test]
    fn rfc_8410_examples_parse() {
        let short = hex(
            "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842",
        );
        let PrivateKey::Ed25519(key) = parse_private_key(&short).unwrap() else {
            panic!("not Ed25519");
        };
        let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        assert_eq!(key.public_key()[..], hex(public));
        let mut long = hex(
            "3051020101300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842812100",
        );
        long.extend(hex(public));
        assert!(parse_private_key(&long).is_ok());
        *long.last_mut().unwrap() ^= 1;
        assert_eq!(parse_private_key(&long).unwrap_err(), Error::Key);
    }

    #[test]
    fn seed_and_expanded_key_must_belong_together() {
        let level = mldsa::Level::MlDsa44;
        let key = mldsa::PrivateKey::from_seed(level, &[5; 32]).unwrap();
        let octets = |bytes: &[u8]| der::element(der::OCTET_STRING, &[bytes]);
        let expanded = octets(key.expanded().unwrap().expose());
        let parse = |key: &Secret| {
            let info = private_key_info(level.oid(), &[], key.expose());
            parse_private_key(info.expose()).map(|_| ())
        };
        let both =
            |seed: &[u8]| der::element(der::SEQUENCE, &[octets(seed).expose(), expanded.expose()]);
        assert_eq!(parse(&both(&[5; 32])), Ok(()));
        assert_eq!(parse(&both(&[6; 32])), Err(Error::Key));
        assert_eq!(
            parse(&expanded),
            Err(Error::Unsupported("a post-quantum key without its seed"))
        );
    }

    proptest! {
        #[test]
        fn no_damage_breaks_the_parser(
            which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), value in any::<u8>(),
        ) {
            // Headers above all: that is where the lengths stand.
            let mut bytes = which.get(keys()).clone();
            let at = at.index(bytes.len().min(80));
            bytes[at] = value;
            let _ = parse_private_key(&bytes);
            let _ = parse_public_key(&bytes);
        }
    }
}
