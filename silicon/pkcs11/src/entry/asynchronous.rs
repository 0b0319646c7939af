//! Asynchronous functions (PKCS#11 3.2, section 5.22).
//!
//! A call in flight belongs to its connection: what it gives cannot outlive the session, so no
//! identifier is handed out, and none can be joined.

use crate::flights::Function;
use crate::outcome::{Outcome, entries};
use crate::state::STATE;
use cryptoki_sys::*;

/// The function named, which can be in flight.
///
/// # Safety
/// As `Function::named`, and null is refused.
unsafe fn function(name: *const CK_UTF8CHAR) -> Outcome<Option<Function>> {
    if name.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by this function's contract.
    Ok(unsafe { Function::named(name) })
}

entries! {
    fn C_AsyncComplete(
        session: CK_SESSION_HANDLE,
        name: *mut CK_UTF8CHAR,
        result: *mut CK_ASYNC_DATA,
    ) {
        let mut session = STATE.session(session)?;
        if !session.is_asynchronous() {
            return Err(CKR_SESSION_ASYNC_NOT_SUPPORTED);
        }
        let function = function(name)?.ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
        session.complete(function, result)
    }

    fn C_AsyncGetID(session: CK_SESSION_HANDLE, name: *mut CK_UTF8CHAR, id: *mut CK_ULONG) {
        let mut session = STATE.session(session)?;
        if !session.is_asynchronous() {
            return Err(CKR_SESSION_ASYNC_NOT_SUPPORTED);
        }
        let function = function(name)?;
        if id.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        if function.is_some_and(|function| session.is_in_flight(function)) {
            Err(CKR_STATE_UNSAVEABLE)
        } else {
            Err(CKR_OPERATION_NOT_INITIALIZED)
        }
    }

    fn C_AsyncJoin(
        session: CK_SESSION_HANDLE,
        name: *mut CK_UTF8CHAR,
        _id: CK_ULONG,
        _data: *mut CK_BYTE,
        _length: CK_ULONG,
    ) {
        let session = STATE.session(session)?;
        if !session.is_asynchronous() {
            return Err(CKR_SESSION_ASYNC_NOT_SUPPORTED);
        }
        function(name)?;
        Err(CKR_SAVED_STATE_INVALID)
    }
}
