//! Verification (PKCS#11 3.2, sections 5.15 and 5.16).

use crate::flights::Function;
use crate::operation::Phase;
use crate::outcome::entries;
use crate::output::{Output, input};
use crate::state::STATE;
use casemate_transport::message::Usage;
use cryptoki_sys::*;

entries! {
    fn C_VerifyInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) {
        STATE.session(session)?.begin(Usage::Verify, mechanism, key)
    }

    fn C_Verify(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        signature: *mut CK_BYTE, signature_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.verify(
            Function::Verify,
            input(data, length),
            input(signature, signature_length),
        )
    }

    fn C_VerifyUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG) {
        STATE.session(session)?.update(Usage::Verify, input(data, length))
    }

    fn C_VerifyFinal(session: CK_SESSION_HANDLE, signature: *mut CK_BYTE, length: CK_ULONG) {
        STATE.session(session)?.finish_verify(input(signature, length))
    }

    fn C_VerifyRecoverInit(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
    ) {
        STATE.session(session)?.begin(Usage::VerifyRecover, mechanism, key)
    }

    fn C_VerifyRecover(
        session: CK_SESSION_HANDLE,
        signature: *mut CK_BYTE, length: CK_ULONG,
        data: *mut CK_BYTE, data_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.single(
            Usage::VerifyRecover,
            input(signature, length),
            Output::new(data, data_length),
        )
    }

    fn C_VerifySignatureInit(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
        signature: *mut CK_BYTE, length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let signature = if mechanism.is_null() { &[] } else { input(signature, length)? };
        session.begin(Usage::Verify, mechanism, key)?;
        let operation = session.operation(Usage::Verify);
        if operation.phase == Phase::Ready {
            operation.signature = Some(signature.to_vec());
        }
        Ok(())
    }

    fn C_VerifySignature(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG) {
        let mut session = STATE.session(session)?;
        let signature = session.operation(Usage::Verify).signature.take();
        let signature = signature.ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
        session.verify(Function::VerifySignature, input(data, length), Ok(&signature))
    }

    fn C_VerifySignatureUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG) {
        let mut session = STATE.session(session)?;
        if session.operation(Usage::Verify).signature.is_none() {
            return Err(CKR_OPERATION_NOT_INITIALIZED);
        }
        session.update(Usage::Verify, input(data, length))
    }

    fn C_VerifySignatureFinal(session: CK_SESSION_HANDLE) {
        let mut session = STATE.session(session)?;
        let signature = session.operation(Usage::Verify).signature.take();
        let signature = signature.ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
        session.finish_verify(Ok(&signature))
    }
}
