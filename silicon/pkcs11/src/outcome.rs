//! Results, and the boundary to C: nothing unwinds across it.

use cryptoki_sys::{CK_RV, CKR_GENERAL_ERROR, CKR_OK};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A value, or the CKR_ code that says why not.
pub type Outcome<T = ()> = Result<T, CK_RV>;

/// Runs the body of an entry point.
pub fn guard(body: impl FnOnce() -> Outcome) -> CK_RV {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CKR_OK,
        Ok(Err(code)) => code,
        Err(_) => CKR_GENERAL_ERROR,
    }
}

/// Ok for CKR_OK.
pub fn check(code: CK_RV) -> Outcome {
    if code == CKR_OK { Ok(()) } else { Err(code) }
}

/// Declares entry points: C functions whose body runs guarded, as an `Outcome`.
macro_rules! entries {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            #[allow(non_snake_case, clippy::too_many_arguments)]
            pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> ::cryptoki_sys::CK_RV {
                #[allow(unused_unsafe)]
                $crate::outcome::guard(|| {
                    // SAFETY: PKCS#11 makes the caller answer for its pointers and lengths: each
                    // pointer that is not null points to as much as its length says, for the
                    // duration of the call. The bodies use them for nothing else.
                    unsafe { $body }
                })
            }
        )*
    };
}
pub(crate) use entries;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_leave_the_library() {
        assert_eq!(guard(|| panic!("deliberate")), CKR_GENERAL_ERROR);
        assert_eq!(guard(|| Err(5)), 5);
        assert_eq!(guard(|| Ok(())), CKR_OK);
    }
}
