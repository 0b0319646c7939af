//! Why an operation did not happen: a CK_RV of PKCS#11 3.2, section 5.1.6.

use casemate_transport::fields::Malformed;
use cryptoki_sys::{CK_RV, CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL, CKR_FUNCTION_FAILED};

/// A refused or failed operation; never CKR_OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code that the client gets.
    pub code: CK_RV,
    /// With CKR_BUFFER_TOO_SMALL: the bytes that the output needs.
    pub needed: usize,
}

impl Failure {
    /// A failure with this code.
    pub const fn new(code: CK_RV) -> Self {
        Self { code, needed: 0 }
    }

    /// The caller's buffer is too small for `needed` bytes.
    pub const fn too_small(needed: usize) -> Self {
        Self {
            code: CKR_BUFFER_TOO_SMALL,
            needed,
        }
    }

    /// The library failed where it should not: never the client's fault.
    pub const fn internal() -> Self {
        Self::new(CKR_FUNCTION_FAILED)
    }
}

impl From<CK_RV> for Failure {
    fn from(code: CK_RV) -> Self {
        Self::new(code)
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::new(CKR_ARGUMENTS_BAD)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CK_RV {:#x}", self.code)
    }
}

impl std::error::Error for Failure {}
