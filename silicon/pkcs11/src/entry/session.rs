//! Session management (PKCS#11 3.2, section 5.6): sessions, login, saved operation states.

use crate::operation::Phase;
use crate::outcome::entries;
use crate::output::{Output, input, store};
use crate::session::{Loss, Session, request};
use crate::state::STATE;
use casemate_transport::info::PartitionInfo;
use casemate_transport::message::{Operation as Code, Usage};
use cryptoki_sys::*;

/// Begins a saved state: this library's mark, then the mechanism, then the module's bytes.
const STATE_MARK: [u8; 4] = *b"CMs1";
const STATE_HEAD: usize = 12;

entries! {
    fn C_OpenSession(
        slot: CK_SLOT_ID,
        flags: CK_FLAGS,
        _application: *mut std::ffi::c_void,
        _notify: CK_NOTIFY,
        handle: *mut CK_SESSION_HANDLE,
    ) {
        STATE.require()?;
        let slot = STATE.slots.get(slot)?;
        if handle.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        if flags & CKF_SERIAL_SESSION == 0 {
            return Err(CKR_SESSION_PARALLEL_NOT_SUPPORTED);
        }
        let mut session = Session::new(slot, flags);
        session.open().map_err(|code| match code {
            CKR_DEVICE_REMOVED => CKR_TOKEN_NOT_PRESENT,
            code => code,
        })?;
        store(handle, STATE.add(session)?)
    }

    fn C_CloseSession(session: CK_SESSION_HANDLE) {
        STATE.require()?;
        STATE.remove(session)
    }

    fn C_CloseAllSessions(slot: CK_SLOT_ID) {
        STATE.require()?;
        let slot = STATE.slots.get(slot)?;
        for handle in STATE.handles(Some(slot.id)) {
            // A session that another thread has closed meanwhile is closed.
            let _ = STATE.remove(handle);
        }
        Ok(())
    }

    fn C_SessionCancel(session: CK_SESSION_HANDLE, flags: CK_FLAGS) {
        let mut session = STATE.session(session)?;
        const USAGES: [(CK_FLAGS, Usage); 7] = [
            (CKF_ENCRYPT, Usage::Encrypt),
            (CKF_DECRYPT, Usage::Decrypt),
            (CKF_DIGEST, Usage::Digest),
            (CKF_SIGN, Usage::Sign),
            (CKF_SIGN_RECOVER, Usage::SignRecover),
            (CKF_VERIFY, Usage::Verify),
            (CKF_VERIFY_RECOVER, Usage::VerifyRecover),
        ];
        for (flag, usage) in USAGES {
            if flags & flag != 0 {
                session.cancel(usage);
            }
        }
        const MESSAGES: [CK_FLAGS; 4] = [
            CKF_MESSAGE_ENCRYPT,
            CKF_MESSAGE_DECRYPT,
            CKF_MESSAGE_SIGN,
            CKF_MESSAGE_VERIFY,
        ];
        for (index, flag) in MESSAGES.iter().enumerate() {
            if flags & flag != 0 {
                session.cancel_messages(index);
            }
        }
        if flags & CKF_FIND_OBJECTS != 0 {
            session.found = None;
        }
        // A key that is being made will be there.
        const MAKING: CK_FLAGS = CKF_GENERATE | CKF_GENERATE_KEY_PAIR | CKF_UNWRAP | CKF_DECAPSULATE;
        if flags & MAKING != 0 && session.makes_keys() {
            return Err(CKR_OPERATION_CANCEL_FAILED);
        }
        Ok(())
    }

    fn C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO) {
        let mut session = STATE.session(session)?;
        if info.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let answer = session.call(&mut request(Code::SessionInfo), Loss::Repeat, |_, _| {})?;
        store(info, CK_SESSION_INFO {
            slotID: session.slot.id,
            state: answer.value0 & u64::from(u32::MAX),
            flags: session.flags,
            ulDeviceError: answer.value1,
        })
    }

    fn C_GetSessionValidationFlags(
        session: CK_SESSION_HANDLE,
        kind: CK_SESSION_VALIDATION_FLAGS_TYPE,
        flags: *mut CK_FLAGS,
    ) {
        let mut session = STATE.session(session)?;
        if kind != CKS_LAST_VALIDATION_OK {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let mut question = request(Code::PartitionInfo);
        question.header.capacity = 1024;
        let mut held = Err(CKR_DEVICE_ERROR);
        session.call(&mut question, Loss::Repeat, |_, output| {
            held = PartitionInfo::decode(output)
                .map(|info| info.validation_flags)
                .map_err(|_| CKR_DEVICE_ERROR);
        })?;
        store(flags, held?)
    }

    fn C_Login(
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: *mut CK_UTF8CHAR,
        length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let mut order = request(Code::Login);
        order.header.object = user;
        order.data = input(pin, length)?;
        session.call(&mut order, Loss::Report, |_, _| {})?;
        session.link()?.forget_verdicts();
        Ok(())
    }

    fn C_LoginUser(
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: *mut CK_UTF8CHAR, length: CK_ULONG,
        name: *mut CK_UTF8CHAR, name_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let mut order = request(Code::LoginUser);
        order.header.object = user;
        order.first = input(name, name_length)?;
        order.data = input(pin, length)?;
        session.call(&mut order, Loss::Report, |_, _| {})?;
        session.link()?.forget_verdicts();
        Ok(())
    }

    fn C_Logout(session: CK_SESSION_HANDLE) {
        let mut session = STATE.session(session)?;
        session.call(&mut request(Code::Logout), Loss::Report, |_, _| {})?;
        session.link()?.forget_verdicts();
        Ok(())
    }

    fn C_GetOperationState(session: CK_SESSION_HANDLE, state: *mut CK_BYTE, length: *mut CK_ULONG) {
        let mut session = STATE.session(session)?;
        let output = Output::new(state, length)?;
        let active = |session: &mut Session, usage| session.operation(usage).phase != Phase::Idle;
        let others = [
            Usage::Sign, Usage::Verify, Usage::Encrypt, Usage::Decrypt,
            Usage::SignRecover, Usage::VerifyRecover,
        ];
        if others.into_iter().any(|usage| active(&mut session, usage)) {
            return Err(CKR_STATE_UNSAVEABLE);
        }
        session.stream(Usage::Digest)?;
        let mut message = request(Code::SaveState);
        message.header.aux = Usage::Digest as u64;
        message.header.capacity = 4096;
        let mut saved = Vec::from(STATE_MARK);
        saved.extend(session.operation(Usage::Digest).mechanism.to_le_bytes());
        session.call(&mut message, Loss::Report, |_, bytes| saved.extend_from_slice(bytes))?;
        if output.length_only() {
            output.tell(saved.len() as u64);
            return Ok(());
        }
        if output.write(&saved) {
            return Ok(());
        }
        output.tell(saved.len() as u64);
        Err(CKR_BUFFER_TOO_SMALL)
    }

    fn C_SetOperationState(
        session: CK_SESSION_HANDLE,
        state: *mut CK_BYTE,
        length: CK_ULONG,
        encryption_key: CK_OBJECT_HANDLE,
        authentication_key: CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        if state.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let saved = input(state, length)?;
        if encryption_key != 0 || authentication_key != 0 {
            return Err(CKR_KEY_NOT_NEEDED);
        }
        let (head, body) = saved.split_at_checked(STATE_HEAD).ok_or(CKR_SAVED_STATE_INVALID)?;
        let (mark, mechanism) = head.split_at(STATE_MARK.len());
        let mechanism = mechanism
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| CKR_SAVED_STATE_INVALID)?;
        if mark != STATE_MARK {
            return Err(CKR_SAVED_STATE_INVALID);
        }
        session.cancel(Usage::Digest);
        let mut message = request(Code::RestoreState);
        message.header.aux = Usage::Digest as u64;
        message.header.mechanism = mechanism;
        message.data = body;
        session.call(&mut message, Loss::Report, |_, _| {})?;
        let operation = session.operation(Usage::Digest);
        operation.phase = Phase::Streaming;
        operation.mechanism = mechanism;
        operation.key = 0;
        operation.length = 0;
        Ok(())
    }
}
