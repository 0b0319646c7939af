//! Why something was not measured.

use cryptoki_sys::{
    CK_RV, CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_VALUE_INVALID, CKR_CURVE_NOT_SUPPORTED,
    CKR_DEVICE_MEMORY, CKR_FUNCTION_NOT_SUPPORTED, CKR_HOST_MEMORY, CKR_KEY_TYPE_INCONSISTENT,
    CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID, CKR_SESSION_ASYNC_NOT_SUPPORTED,
};

/// Why a call or a command failed.
#[derive(Debug)]
pub enum Failure {
    /// A PKCS#11 function answered with this code.
    Token(&'static str, CK_RV),
    /// There is no such thing here: say what.
    Unsupported(String),
    /// Anything else, for a person.
    Other(String),
}

impl Failure {
    /// The code of a token's answer.
    pub fn code(&self) -> Option<CK_RV> {
        match self {
            Self::Token(_, code) => Some(*code),
            Self::Unsupported(_) | Self::Other(_) => None,
        }
    }

    /// Whether it says that the library cannot do this, or not so much at once, rather than that
    /// something broke.
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Token(_, code) => matches!(
                *code,
                CKR_MECHANISM_INVALID
                    | CKR_MECHANISM_PARAM_INVALID
                    | CKR_FUNCTION_NOT_SUPPORTED
                    | CKR_KEY_TYPE_INCONSISTENT
                    | CKR_ATTRIBUTE_TYPE_INVALID
                    | CKR_ATTRIBUTE_VALUE_INVALID
                    | CKR_CURVE_NOT_SUPPORTED
                    | CKR_SESSION_ASYNC_NOT_SUPPORTED
                    | CKR_DEVICE_MEMORY
                    | CKR_HOST_MEMORY
            ),
            Self::Unsupported(_) => true,
            Self::Other(_) => false,
        }
    }
}

/// What happened; a token's code stands apart (`code`), for those who know its name.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(call, _) => write!(f, "{call} answered"),
            Self::Unsupported(what) | Self::Other(what) => write!(f, "{what}"),
        }
    }
}
