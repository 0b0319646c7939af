//! Decryption (PKCS#11 3.2, section 5.10).

use crate::outcome::entries;
use crate::output::{Output, input};
use crate::state::STATE;
use casemate_transport::message::Usage;
use cryptoki_sys::*;

entries! {
    fn C_DecryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) {
        STATE.session(session)?.begin(Usage::Decrypt, mechanism, key)
    }

    fn C_Decrypt(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.single(Usage::Decrypt, input(data, length), Output::new(result, result_length))
    }

    fn C_DecryptUpdate(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.update_into(Usage::Decrypt, input(data, length), Output::new(result, result_length))
    }

    fn C_DecryptFinal(
        session: CK_SESSION_HANDLE,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.finish_into(Usage::Decrypt, Output::new(result, result_length))
    }
}
