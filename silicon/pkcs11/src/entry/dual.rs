//! Dual-function operations (PKCS#11 3.2, section 5.17): two streams of one session, side by side.
//!
//! The step that needs the caller's buffer comes first: if it does not fit, neither has happened.

use crate::operation::Phase;
use crate::outcome::{Outcome, entries};
use crate::output::{Output, input};
use crate::session::Session;
use crate::state::STATE;
use casemate_transport::message::Usage;
use cryptoki_sys::*;

/// Whether both operations run.
fn both(session: &mut Session, one: Usage, other: Usage) -> Outcome {
    if session.operation(one).phase == Phase::Idle || session.operation(other).phase == Phase::Idle
    {
        return Err(CKR_OPERATION_NOT_INITIALIZED);
    }
    Ok(())
}

/// Encrypts a part, then digests or signs the plaintext.
fn outward(session: &mut Session, with: Usage, data: &[u8], output: Output) -> Outcome {
    both(session, Usage::Encrypt, with)?;
    if output.length_only() {
        return session.update_into(Usage::Encrypt, Ok(data), Ok(output));
    }
    // In place, the ciphertext overwrites what is still to be digested.
    let kept = output
        .overlaps(data)
        .then(|| zeroize::Zeroizing::new(data.to_vec()));
    session.update_into(Usage::Encrypt, Ok(data), Ok(output))?;
    let plaintext = kept.as_ref().map_or(data, |kept| kept.as_slice());
    session.update(with, Ok(plaintext))
}

/// Decrypts a part, then digests or verifies the plaintext.
unsafe fn inward(
    session: &mut Session,
    with: Usage,
    data: &[u8],
    result: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> Outcome {
    both(session, Usage::Decrypt, with)?;
    // SAFETY: by the caller's contract.
    let output = unsafe { Output::new(result, length)? };
    let length_only = output.length_only();
    session.update_into(Usage::Decrypt, Ok(data), Ok(output))?;
    if length_only {
        return Ok(());
    }
    // SAFETY: as many bytes have just been written there.
    let plaintext = unsafe { input(result, *length)? };
    session.update(with, Ok(plaintext))
}

entries! {
    fn C_DigestEncryptUpdate(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let output = Output::new(result, result_length)?;
        outward(&mut session, Usage::Digest, input(data, length)?, output)
    }

    fn C_DecryptDigestUpdate(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        inward(&mut session, Usage::Digest, input(data, length)?, result, result_length)
    }

    fn C_SignEncryptUpdate(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let output = Output::new(result, result_length)?;
        outward(&mut session, Usage::Sign, input(data, length)?, output)
    }

    fn C_DecryptVerifyUpdate(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        result: *mut CK_BYTE, result_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        inward(&mut session, Usage::Verify, input(data, length)?, result, result_length)
    }
}
