//! General-purpose functions (PKCS#11 3.2, section 5.4), and those that are there for history.

use crate::outcome::entries;
use crate::state::STATE;
use casemate_transport::info::padded;
use cryptoki_sys::*;

/// What this library is, for C_GetInfo.
pub const MANUFACTURER: &str = "Casemate";
const DESCRIPTION: &str = "Casemate PKCS#11 library";

entries! {
    fn C_Initialize(arguments: *mut std::ffi::c_void) {
        if let Some(arguments) = arguments.cast::<CK_C_INITIALIZE_ARGS>().as_ref() {
            let given = [
                arguments.CreateMutex.is_some(),
                arguments.DestroyMutex.is_some(),
                arguments.LockMutex.is_some(),
                arguments.UnlockMutex.is_some(),
            ];
            if !arguments.pReserved.is_null() || given.iter().any(|one| *one != given[0]) {
                return Err(CKR_ARGUMENTS_BAD);
            }
            // The library locks with futexes, whatever the program offers, and starts no thread,
            // whatever it allows.
        }
        STATE.initialise()
    }

    fn C_Finalize(reserved: *mut std::ffi::c_void) {
        if !reserved.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        STATE.finalise()
    }

    fn C_GetInfo(info: *mut CK_INFO) {
        STATE.require()?;
        crate::output::store(info, CK_INFO {
            cryptokiVersion: CK_VERSION { major: 3, minor: 2 },
            manufacturerID: padded(MANUFACTURER),
            flags: 0,
            libraryDescription: padded(DESCRIPTION),
            libraryVersion: library_version(),
        })
    }

    fn C_GetFunctionStatus(session: CK_SESSION_HANDLE) {
        STATE.session(session)?;
        Err(CKR_FUNCTION_NOT_PARALLEL)
    }

    fn C_CancelFunction(session: CK_SESSION_HANDLE) {
        STATE.session(session)?;
        Err(CKR_FUNCTION_NOT_PARALLEL)
    }
}

/// Of this package.
fn library_version() -> CK_VERSION {
    let number = |text: &str| text.parse().unwrap_or(0);
    CK_VERSION {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
    }
}
