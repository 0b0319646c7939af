//! Random numbers (PKCS#11 3.2, section 5.19).

use crate::outcome::entries;
use crate::output::input;
use crate::session::{Loss, request};
use crate::state::STATE;
use casemate_transport::layout::MESSAGE_MAX;
use casemate_transport::message::Operation as Code;
use cryptoki_sys::*;

/// Random bytes of one message: what fits a slot without a bulk region.
const AT_ONCE: usize = 16 * 1024;

entries! {
    fn C_SeedRandom(session: CK_SESSION_HANDLE, seed: *mut CK_BYTE, length: CK_ULONG) {
        let mut session = STATE.session(session)?;
        for part in input(seed, length)?.chunks(MESSAGE_MAX) {
            let mut order = request(Code::SeedRandom);
            order.data = part;
            session.call(&mut order, Loss::Repeat, |_, _| {})?;
        }
        Ok(())
    }

    fn C_GenerateRandom(session: CK_SESSION_HANDLE, random: *mut CK_BYTE, length: CK_ULONG) {
        let mut session = STATE.session(session)?;
        if random.is_null() && length > 0 {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let length = usize::try_from(length).map_err(|_| CKR_ARGUMENTS_BAD)?;
        let mut done = 0;
        while done < length {
            let wanted = (length - done).min(AT_ONCE);
            let mut question = request(Code::Random);
            question.header.aux = wanted as u64;
            question.header.capacity = wanted as u32;
            let mut whole = false;
            session.call(&mut question, Loss::Repeat, |_, bytes| {
                if bytes.len() == wanted {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), random.add(done), wanted);
                    whole = true;
                }
            })?;
            if !whole {
                return Err(CKR_DEVICE_ERROR);
            }
            done += wanted;
        }
        Ok(())
    }
}
