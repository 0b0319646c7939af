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
