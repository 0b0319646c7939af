//! Signatures and MACs (PKCS#11 3.2, section 5.13).

use crate::outcome::entries;
use crate::output::{Output, input};
use crate::state::STATE;
use casemate_transport::message::Usage;
use cryptoki_sys::*;

entries! {
    fn C_SignInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) {
        STATE.session(session)?.begin(Usage::Sign, mechanism, key)
    }

    fn C_Sign(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.single(Usage::Sign, input(data, length), Output::new(signature, signature_length))
    }

    fn C_SignUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG) {
        STATE.session(session)?.update(Usage::Sign, input(data, length))
    }

    fn C_SignFinal(session: CK_SESSION_HANDLE, signature: *mut CK_BYTE, length: *mut CK_ULONG) {
        STATE.session(session)?.finish_into(Usage::Sign, Output::new(signature, length))
    }

    fn C_SignRecoverInit(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
    ) {
        STATE.session(session)?.begin(Usage::SignRecover, mechanism, key)
    }

    fn C_SignRecover(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.single(
            Usage::SignRecover,
            input(data, length),
            Output::new(signature, signature_length),
        )
    }
}
