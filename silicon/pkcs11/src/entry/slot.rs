//! Slot and token management (PKCS#11 3.2, section 5.5): a slot is a partition.

use crate::entry::general::MANUFACTURER;
use crate::link::{Link, Slot};
use crate::outcome::{Outcome, check, entries};
use crate::output::{input, store};
use crate::registry::Places;
use crate::session::{Loss, request, result_of};
use crate::state::STATE;
use casemate_transport::client::{Connection, Request};
use casemate_transport::info::{PartitionInfo, padded};
use casemate_transport::message::{Operation as Code, ResponseHeader};
use cryptoki_sys::*;
use std::time::Duration;

/// How often a program that waits for slot events looks.
const EVENT_PERIOD: Duration = Duration::from_millis(250);

/// A request outside any session.
fn call(link: &Link, request: &Request<'_>, read: impl FnOnce(&[u8])) -> Outcome<ResponseHeader> {
    let header = link
        .connection
        .call(request, &mut Connection::patience(), |header, output| {
            read(output);
            header
        })
        .map_err(result_of)?;
    check(header.result).map(|()| header)
}

/// The partition's own description.
fn partition_info(slot: &Slot) -> Outcome<PartitionInfo> {
    let link = slot.connect().map_err(|_| CKR_TOKEN_NOT_PRESENT)?;
    let mut info = Err(CKR_DEVICE_ERROR);
    let mut question = request(Code::PartitionInfo);
    question.header.capacity = 1024;
    call(&link, &question, |output| {
        info = PartitionInfo::decode(output).map_err(|_| CKR_DEVICE_ERROR);
    })?;
    info
}

/// The time in the form of CK_TOKEN_INFO: YYYYMMDDhhmmss00, UTC.
fn utc_time(seconds: u64) -> [u8; 16] {
    if seconds == 0 {
        return [b' '; 16];
    }
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1970-01-01 to a date, after Howard Hinnant's civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let text = format!(
        "{year:04}{month:02}{day:02}{:02}{:02}{:02}00",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    );
    padded(&text)
}

/// Writes a list by the conventions: null asks for the count.
unsafe fn give_list(list: &[u64], target: *mut u64, count: *mut CK_ULONG) -> Outcome {
    // SAFETY: by the caller's contract.
    let Some(count) = (unsafe { count.as_mut() }) else {
        return Err(CKR_ARGUMENTS_BAD);
    };
    let room = *count;
    *count = list.len() as CK_ULONG;
    if target.is_null() {
        return Ok(());
    }
    if room < list.len() as CK_ULONG {
        return Err(CKR_BUFFER_TOO_SMALL);
    }
    // SAFETY: the room has just been checked.
    unsafe { std::ptr::copy_nonoverlapping(list.as_ptr(), target, list.len()) };
    Ok(())
}

entries! {
    fn C_GetSlotList(present: CK_BBOOL, list: *mut CK_SLOT_ID, count: *mut CK_ULONG) {
        STATE.require()?;
        if count.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        if list.is_null() {
            STATE.slots.scan(&Places::from_environment());
        }
        let slots: Vec<u64> = STATE
            .slots
            .iter()
            .filter(|slot| present == CK_FALSE || slot.is_present())
            .map(|slot| slot.id)
            .collect();
        give_list(&slots, list, count)
    }

    fn C_GetSlotInfo(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) {
        STATE.require()?;
        let slot = STATE.slots.get(slot)?;
        let version = CK_VERSION { major: 0, minor: 0 };
        store(info, CK_SLOT_INFO {
            slotDescription: padded(&format!("Casemate partition {}", slot.name)),
            manufacturerID: padded(MANUFACTURER),
            flags: if slot.is_present() { CKF_TOKEN_PRESENT } else { 0 },
            hardwareVersion: version,
            firmwareVersion: version,
        })
    }

    fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) {
        STATE.require()?;
        let slot = STATE.slots.get(slot)?;
        if info.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let told = partition_info(slot)?;
        let limit = |number: u64| if number == 0 { CK_EFFECTIVELY_INFINITE } else { number };
        let memory = |number: u64| if number == u64::MAX { CK_UNAVAILABLE_INFORMATION } else { number };
        let version = |(major, minor)| CK_VERSION { major, minor };
        store(info, CK_TOKEN_INFO {
            label: told.label,
            manufacturerID: told.manufacturer,
            model: told.model,
            serialNumber: told.serial,
            flags: told.flags | CKF_ASYNC_SESSION_SUPPORTED,
            ulMaxSessionCount: limit(told.sessions_max),
            ulSessionCount: told.sessions,
            ulMaxRwSessionCount: limit(told.rw_sessions_max),
            ulRwSessionCount: told.rw_sessions,
            ulMaxPinLen: told.pin_max.into(),
            ulMinPinLen: told.pin_min.into(),
            ulTotalPublicMemory: memory(told.memory_total),
            ulFreePublicMemory: memory(told.memory_free),
            ulTotalPrivateMemory: memory(told.memory_total),
            ulFreePrivateMemory: memory(told.memory_free),
            hardwareVersion: version(told.hardware_version),
            firmwareVersion: version(told.firmware_version),
            utcTime: utc_time(told.time),
        })
    }

    fn C_WaitForSlotEvent(flags: CK_FLAGS, slot: *mut CK_SLOT_ID, reserved: *mut std::ffi::c_void) {
        STATE.require()?;
        if slot.is_null() || !reserved.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        loop {
            let known = STATE.slots.iter().count();
            STATE.slots.scan(&Places::from_environment());
            let changed = STATE
                .slots
                .iter()
                .find(|entry| entry.presence_changed() || entry.id >= known as CK_SLOT_ID);
            if let Some(changed) = changed {
                return store(slot, changed.id);
            }
            if flags & CKF_DONT_BLOCK != 0 {
                return Err(CKR_NO_EVENT);
            }
            std::thread::sleep(EVENT_PERIOD);
            // Another thread may have called C_Finalize.
            STATE.require()?;
        }
    }

    fn C_GetMechanismList(slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) {
        STATE.require()?;
        let slot = STATE.slots.get(slot)?;
        if count.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let link = slot.connect().map_err(|_| CKR_TOKEN_NOT_PRESENT)?;
        let mut question = request(Code::MechanismList);
        question.header.capacity = 16 * 1024;
        let mut mechanisms = Vec::new();
        call(&link, &question, |output| {
            mechanisms = output
                .chunks_exact(8)
                .filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes))
                .collect();
        })?;
        give_list(&mechanisms, list, count)
    }

    fn C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO) {
        STATE.require()?;
        let slot = STATE.slots.get(slot)?;
        if info.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let link = slot.connect().map_err(|_| CKR_TOKEN_NOT_PRESENT)?;
        let mut question = request(Code::MechanismInfo);
        question.header.mechanism = kind;
        let answer = call(&link, &question, |_| {})?;
        store(info, CK_MECHANISM_INFO {
            ulMinKeySize: answer.value0 & u64::from(u32::MAX),
            ulMaxKeySize: answer.value0 >> 32,
            flags: answer.value1,
        })
    }

    fn C_InitToken(slot: CK_SLOT_ID, pin: *mut CK_UTF8CHAR, length: CK_ULONG, label: *mut CK_UTF8CHAR) {
        STATE.require()?;
        let slot = STATE.slots.get(slot)?;
        let pin = input(pin, length)?;
        let label = input(label, 32)?;
        if !STATE.handles(Some(slot.id)).is_empty() {
            return Err(CKR_SESSION_EXISTS);
        }
        let link = slot.connect().map_err(|_| CKR_TOKEN_NOT_PRESENT)?;
        let mut order = request(Code::InitToken);
        order.first = label;
        order.data = pin;
        call(&link, &order, |_| {})?;
        link.forget_verdicts();
        Ok(())
    }

    fn C_InitPIN(session: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, length: CK_ULONG) {
        let mut session = STATE.session(session)?;
        let mut order = request(Code::InitPin);
        order.data = input(pin, length)?;
        session.call(&mut order, Loss::Report, |_, _| {})?;
        Ok(())
    }

    fn C_SetPIN(
        session: CK_SESSION_HANDLE,
        old: *mut CK_UTF8CHAR, old_length: CK_ULONG,
        new: *mut CK_UTF8CHAR, new_length: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let mut order = request(Code::SetPin);
        order.first = input(old, old_length)?;
        order.data = input(new, new_length)?;
        session.call(&mut order, Loss::Report, |_, _| {})?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_as_the_standard_has_it() {
        assert_eq!(&utc_time(951_782_400), b"2000022900000000");
        assert_eq!(&utc_time(1_798_761_599), b"2026123123595900");
        assert_eq!(&utc_time(0), &[b' '; 16]);
    }

    #[test]
    fn a_list_is_given_whole_or_not_at_all() {
        let mut target = [0u64; 2];
        let mut count = 0;
        unsafe {
            assert_eq!(
                give_list(&[7, 8, 9], std::ptr::null_mut(), &mut count),
                Ok(())
            );
            assert_eq!(count, 3);
            count = 2;
            let result = give_list(&[7, 8, 9], target.as_mut_ptr(), &mut count);
            assert_eq!((result, count), (Err(CKR_BUFFER_TOO_SMALL), 3));
            count = 2;
            assert_eq!(give_list(&[7, 8], target.as_mut_ptr(), &mut count), Ok(()));
        }
        assert_eq!(target, [7, 8]);
    }
}
