//! Asynchronous functions (PKCS#11 3.2, section 5.22).
//!
//! A session is asynchronous only if it was opened with CKF_ASYNC_SESSION, which C_OpenSession
//! refuses by name as long as no operation can be left in flight; so no session here has one.

use crate::outcome::entries;
use crate::state::STATE;
use cryptoki_sys::*;

entries! {
    fn C_AsyncComplete(
        session: CK_SESSION_HANDLE,
        _function: *mut CK_UTF8CHAR,
        _result: *mut CK_ASYNC_DATA,
    ) {
        STATE.session(session)?;
        Err(CKR_SESSION_ASYNC_NOT_SUPPORTED)
    }

    fn C_AsyncGetID(
        session: CK_SESSION_HANDLE,
        _function: *mut CK_UTF8CHAR,
        _id: *mut CK_ULONG,
    ) {
        STATE.session(session)?;
        Err(CKR_SESSION_ASYNC_NOT_SUPPORTED)
    }

    fn C_AsyncJoin(
        session: CK_SESSION_HANDLE,
        _function: *mut CK_UTF8CHAR,
        _id: CK_ULONG,
        _data: *mut CK_BYTE,
        _length: CK_ULONG,
    ) {
        STATE.session(session)?;
        Err(CKR_SESSION_ASYNC_NOT_SUPPORTED)
    }
}
