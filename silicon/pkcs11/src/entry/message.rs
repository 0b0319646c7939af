//! Message-based functions (PKCS#11 3.2, sections 5.9, 5.11, 5.14 and 5.16).

use crate::messages::{GcmMessage, Kind};
use crate::outcome::{Outcome, entries};
use crate::output::{Output, input};
use crate::state::STATE;
use cryptoki_sys::*;
use std::ffi::c_void;

/// A message's own parameters for a signature: none of our mechanisms has any.
fn no_parameter(parameter: *mut c_void, length: CK_ULONG) -> Outcome {
    if parameter.is_null() || length == 0 {
        Ok(())
    } else {
        Err(CKR_MECHANISM_PARAM_INVALID)
    }
}

entries! {
    fn C_MessageEncryptInit(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
    ) {
        STATE.session(session)?.begin_messages(Kind::Encrypt, mechanism, key)
    }

    fn C_EncryptMessage(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        associated: *mut CK_BYTE, associated_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.expects_message(Kind::Encrypt)?;
        let gcm = GcmMessage::read(parameter, parameter_length)?;
        let output = Output::new(result, result_length)?;
        session.encrypt_message(
            &gcm, input(associated, associated_length)?, input(data, length)?, &output,
        )
    }

    fn C_EncryptMessageBegin(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        associated: *mut CK_BYTE, associated_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.expects_message(Kind::Encrypt)?;
        let gcm = GcmMessage::read(parameter, parameter_length)?;
        session.encrypt_begin(&gcm, input(associated, associated_length)?)
    }

    fn C_EncryptMessageNext(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
        flags: CK_FLAGS,
    ) {
        let mut session = STATE.session(session)?;
        let gcm = GcmMessage::read(parameter, parameter_length)?;
        let output = Output::new(result, result_length)?;
        session.encrypt_next(&gcm, input(data, length)?, &output, flags & CKF_END_OF_MESSAGE != 0)
    }

    fn C_MessageEncryptFinal(session: CK_SESSION_HANDLE) {
        STATE.session(session)?.end_messages(Kind::Encrypt)
    }

    fn C_MessageDecryptInit(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
    ) {
        STATE.session(session)?.begin_messages(Kind::Decrypt, mechanism, key)
    }

    fn C_DecryptMessage(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        associated: *mut CK_BYTE, associated_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.expects_message(Kind::Decrypt)?;
        let gcm = GcmMessage::read(parameter, parameter_length)?;
        let output = Output::new(result, result_length)?;
        session.decrypt_message(
            &gcm, input(associated, associated_length)?, input(data, length)?, &output,
        )
    }

    fn C_DecryptMessageBegin(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        associated: *mut CK_BYTE, associated_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.expects_message(Kind::Decrypt)?;
        GcmMessage::read(parameter, parameter_length)?;
        session.gather(Kind::Decrypt, input(associated, associated_length)?)
    }

    fn C_DecryptMessageNext(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
        flags: CK_FLAGS,
    ) {
        let mut session = STATE.session(session)?;
        let gcm = GcmMessage::read(parameter, parameter_length)?;
        let output = Output::new(result, result_length)?;
        let data = input(data, length)?;
        if flags & CKF_END_OF_MESSAGE == 0 {
            if !output.length_only() {
                session.gather_part(Kind::Decrypt, data)?;
            }
            output.tell(0);
            return Ok(());
        }
        session.gather_last(Kind::Decrypt, data, output.length_only(), |session, aad, whole| {
            session.decrypt_message(&gcm, aad, whole, &output)
        })
    }

    fn C_MessageDecryptFinal(session: CK_SESSION_HANDLE) {
        STATE.session(session)?.end_messages(Kind::Decrypt)
    }

    fn C_MessageSignInit(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
    ) {
        STATE.session(session)?.begin_messages(Kind::Sign, mechanism, key)
    }

    fn C_SignMessage(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.expects_message(Kind::Sign)?;
        no_parameter(parameter, parameter_length)?;
        let output = Output::new(signature, signature_length)?;
        session.sign_message(input(data, length)?, &output)
    }

    fn C_SignMessageBegin(
        session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        no_parameter(parameter, parameter_length)?;
        session.gather(Kind::Sign, &[])
    }

    fn C_SignMessageNext(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        signature: *mut CK_BYTE, signature_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        no_parameter(parameter, parameter_length)?;
        let data = input(data, length)?;
        if signature_length.is_null() {
            return session.gather_part(Kind::Sign, data);
        }
        let output = Output::new(signature, signature_length)?;
        session.gather_last(Kind::Sign, data, output.length_only(), |session, _, whole| {
            session.sign_message(whole, &output)
        })
    }

    fn C_MessageSignFinal(session: CK_SESSION_HANDLE) {
        STATE.session(session)?.end_messages(Kind::Sign)
    }

    fn C_MessageVerifyInit(
        session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE,
    ) {
        STATE.session(session)?.begin_messages(Kind::Verify, mechanism, key)
    }

    fn C_VerifyMessage(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        signature: *mut CK_BYTE, signature_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.expects_message(Kind::Verify)?;
        no_parameter(parameter, parameter_length)?;
        session.verify_message(input(data, length)?, input(signature, signature_length)?)
    }

    fn C_VerifyMessageBegin(
        session: CK_SESSION_HANDLE, parameter: *mut c_void, parameter_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        no_parameter(parameter, parameter_length)?;
        session.gather(Kind::Verify, &[])
    }

    fn C_VerifyMessageNext(
        session: CK_SESSION_HANDLE,
        parameter: *mut c_void, parameter_length: CK_ULONG,
        data: *mut CK_BYTE, length: CK_ULONG,
        signature: *mut CK_BYTE, signature_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        no_parameter(parameter, parameter_length)?;
        let data = input(data, length)?;
        if signature.is_null() {
            return session.gather_part(Kind::Verify, data);
        }
        let signature = input(signature, signature_length)?;
        session.gather_last(Kind::Verify, data, false, |session, _, whole| {
            session.verify_message(whole, signature)
        })
    }

    fn C_MessageVerifyFinal(session: CK_SESSION_HANDLE) {
        STATE.session(session)?.end_messages(Kind::Verify)
    }
}
