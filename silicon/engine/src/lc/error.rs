//! What can go wrong in a primitive.

/// A refused or failed primitive. It never says more about a secret than that it did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A key, point or scalar that the algorithm does not allow.
    Key,
    /// A key, modulus or parameter of an unsupported size.
    Size,
    /// A parameter of the mechanism (IV, tag length, hash, context, ...).
    Parameter,
    /// Data of a wrong length, or too long for the key.
    DataLength,
    /// Ciphertext, wrapped key or padding that does not verify.
    Decrypt,
    /// A signature or tag that does not verify.
    Signature,
    /// An encoding (DER, PEM, a saved state) that is not well-formed; the text names what it is of.
    Encoding(&'static str),
    /// The output does not fit; it needs this many bytes.
    TooSmall(usize),
    /// What AWS-LC or this room cannot do; the text names it.
    Unsupported(&'static str),
    /// AWS-LC failed where it should not.
    Internal,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key => f.write_str("the key is not valid for its algorithm"),
            Self::Size => f.write_str("the size is not supported"),
            Self::Parameter => f.write_str("a mechanism parameter is not valid"),
            Self::DataLength => {
                f.write_str("the data has a length that the operation does not take")
            }
            Self::Decrypt => f.write_str("the ciphertext does not decrypt"),
            Self::Signature => f.write_str("the signature does not verify"),
            Self::Encoding(what) => write!(f, "{what} is not well-formed"),
            Self::TooSmall(needed) => write!(f, "the output needs {needed} bytes"),
            Self::Unsupported(what) => write!(f, "{what} is not supported"),
            Self::Internal => f.write_str("the cryptographic library failed"),
        }
    }
}

impl std::error::Error for Error {}

/// Fails with this error and empties AWS-LC's error queue of this thread.
pub(super) fn failed<T>(error: Error) -> Result<T, Error> {
    // SAFETY: touches only this thread's queue.
    unsafe { aws_lc_sys::ERR_clear_error() };
    Err(error)
}

/// AWS-LC's answer as a result: 1 is success.
pub(super) fn check(answer: std::os::raw::c_int, error: Error) -> Result<(), Error> {
    if answer == 1 { Ok(()) } else { failed(error) }
}

#[cfg(test)]
mod tests {
    use crate::lc::digest::Hash;
    use crate::lc::{Input, Output, ec, edwards, gcm, mldsa, mlkem, montgomery, pkcs8, rsa, xts};

    /// What fails leaves nothing in AWS-LC's error queue, where it would pass for the next failure.
    #[test]
    fn failures_leave_no_error_behind() {
        let failures: [(&str, &dyn Fn() -> bool); 12] = [
            ("point", &|| {
                ec::PublicKey::from_point(ec::Curve::P256, &[4; 65]).is_err()
            }),
            ("scalar", &|| {
                ec::PrivateKey::from_scalar(ec::Curve::P384, &[0xff; 48]).is_err()
            }),
            ("ECDSA", &|| {
                let key = ec::PrivateKey::generate(ec::Curve::P256).unwrap();
                key.public().unwrap().verify(&[1; 32], &[0; 64]).is_err()
            }),
            ("GCM", &|| {
                let key = gcm::AesGcm::new(&[1; 16]).unwrap();
                key.open(&[1; 12], b"", b"x", &[0; 16]).is_err()
            }),
            ("XTS", &|| {
                let mut key = [1; xts::KEY];
                key[0] = 2;
                let key = xts::XtsKey::new(&key).unwrap();
                let (input, mut output) = (Input::new(&[0; 15]), [0; 15]);
                let direction = crate::lc::aes::Direction::Encrypt;
                key.unit(direction, &[0; 16], input, &mut Output::new(&mut output))
                    .is_err()
            }),
            ("RSA key", &|| {
                rsa::PublicKey::from_components(&[0xfe; 256], &[4]).is_err()
            }),
            ("RSA numbers", &|| {
                rsa::PrivateKey::from_exponents(&[0xff; 256], &[3], &[5; 256], None).is_err()
            }),
            ("RSA signature", &|| {
                let key = rsa::PublicKey::from_components(&[0xff; 256], &[1, 0, 1]).unwrap();
                key.verify_pkcs1(Hash::Sha256, &[1; 32], &[2; 256]).is_err()
                    && key.encrypt_raw(&[0xff; 256]).is_err()
            }),
            ("Ed25519", &|| {
                edwards::verify(&[2; 32], edwards::Scheme::Pure, b"m", &[0xff; 64]).is_err()
            }),
            ("X25519", &|| {
                montgomery::PrivateKey::new(&[1; 32])
                    .unwrap()
                    .agree(&[0; 32])
                    .is_err()
            }),
            ("ML-DSA", &|| {
                let level = mldsa::Level::MlDsa44;
                let key = mldsa::PublicKey::new(level, &vec![1; level.public_bytes()]).unwrap();
                key.verify(b"m", b"", &vec![0; level.signature_bytes()])
                    .is_err()
            }),
            ("ML-KEM", &|| {
                let level = mlkem::Level::MlKem512;
                mlkem::PublicKey::new(level, &vec![0xff; level.public_bytes()]).is_err()
                    && pkcs8::parse_private_key(&[0x30, 0]).is_err()
            }),
        ];
        for (name, fails) in failures {
            assert!(fails(), "{name} did not fail");
            assert_eq!(unsafe { aws_lc_sys::ERR_peek_error() }, 0, "{name}");
        }
    }
}
