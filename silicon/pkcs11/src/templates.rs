//! C templates to the wire, and answers about attributes back into C templates.

use crate::outcome::Outcome;
use casemate_transport::attributes::{self, LENGTH_ONLY, Status, encode_query};
use casemate_transport::message::{decode_attributes, encode_attribute};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_RV, CK_ULONG, CK_UNAVAILABLE_INFORMATION,
    CKA_DECAPSULATE_TEMPLATE, CKA_DERIVE_TEMPLATE, CKA_ENCAPSULATE_TEMPLATE, CKA_UNWRAP_TEMPLATE,
    CKA_WRAP_TEMPLATE, CKR_ARGUMENTS_BAD, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_ATTRIBUTE_VALUE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_DEVICE_ERROR, CKR_OK,
};
use std::mem::size_of;
use zeroize::Zeroizing;

/// Most attributes of a template.
const ATTRIBUTES_MAX: usize = 1024;
/// How deep templates nest.
const DEPTH_MAX: usize = 4;
/// Bytes before each value on the wire.
const HEAD: usize = 12;
/// Any length of value will do.
const UNLIMITED: u32 = LENGTH_ONLY - 1;

fn is_template(kind: CK_ATTRIBUTE_TYPE) -> bool {
    [
        CKA_WRAP_TEMPLATE,
        CKA_UNWRAP_TEMPLATE,
        CKA_DERIVE_TEMPLATE,
        CKA_ENCAPSULATE_TEMPLATE,
        CKA_DECAPSULATE_TEMPLATE,
    ]
    .contains(&kind)
}

/// The attributes behind a pointer and a count.
unsafe fn attributes_of<'a>(
    template: *const CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Outcome<&'a [CK_ATTRIBUTE]> {
    let count = usize::try_from(count).map_err(|_| CKR_ARGUMENTS_BAD)?;
    if count == 0 {
        return Ok(&[]);
    }
    if template.is_null() || !template.is_aligned() || count > ATTRIBUTES_MAX {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: by the caller's contract; the count is bounded.
    Ok(unsafe { std::slice::from_raw_parts(template, count) })
}

/// The wire form of a template. It may hold the value of a key: it is wiped when dropped, and the
/// buffer is never moved while it is filled.
///
/// # Safety
/// As PKCS#11 has it: `count` attributes, each with a value of its length.
pub unsafe fn encode(
    template: *const CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Outcome<Zeroizing<Vec<u8>>> {
    // SAFETY: by this function's contract, twice.
    unsafe {
        let size = size_of_template(template, count, 0)?;
        let mut out = Zeroizing::new(Vec::with_capacity(size));
        write_template(&mut out, template, count, 0)?;
        Ok(out)
    }
}

unsafe fn size_of_template(
    template: *const CK_ATTRIBUTE,
    count: CK_ULONG,
    depth: usize,
) -> Outcome<usize> {
    let mut size = 0;
    // SAFETY: by the caller's contract.
    for attribute in unsafe { attributes_of(template, count)? } {
        size += HEAD
            + match nested(attribute)? {
                // SAFETY: a template's value is a template.
                Some(count) => unsafe {
                    size_of_template(attribute.pValue.cast(), count, deeper(depth)?)?
                },
                None => usize::try_from(attribute.ulValueLen)
                    .map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?,
            };
        if size > casemate_transport::layout::MESSAGE_MAX {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID);
        }
    }
    Ok(size)
}

unsafe fn write_template(
    out: &mut Vec<u8>,
    template: *const CK_ATTRIBUTE,
    count: CK_ULONG,
    depth: usize,
) -> Outcome {
    // SAFETY: by the caller's contract.
    for attribute in unsafe { attributes_of(template, count)? } {
        if let Some(count) = nested(attribute)? {
            let mut inner = Vec::new();
            // SAFETY: a template's value is a template.
            unsafe {
                write_template(&mut inner, attribute.pValue.cast(), count, deeper(depth)?)?;
            }
            encode_attribute(out, attribute.type_, &inner);
        } else {
            // SAFETY: by the caller's contract.
            let value = unsafe {
                crate::output::input(attribute.pValue.cast(), attribute.ulValueLen)
                    .map_err(|_| CKR_ATTRIBUTE_VALUE_INVALID)?
            };
            encode_attribute(out, attribute.type_, value);
        }
    }
    Ok(())
}

fn deeper(depth: usize) -> Outcome<usize> {
    if depth < DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(CKR_ATTRIBUTE_VALUE_INVALID)
    }
}

/// How many attributes an attribute's value has, if it is a template.
fn nested(attribute: &CK_ATTRIBUTE) -> Outcome<Option<CK_ULONG>> {
    if !is_template(attribute.type_) {
        return Ok(None);
    }
    let size = size_of::<CK_ATTRIBUTE>() as CK_ULONG;
    if !attribute.ulValueLen.is_multiple_of(size) {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    Ok(Some(attribute.ulValueLen / size))
}

/// The query for what C_GetAttributeValue asks, and the room that its answer needs.
///
/// # Safety
/// As PKCS#11 has it: `count` attributes.
pub unsafe fn query(template: *const CK_ATTRIBUTE, count: CK_ULONG) -> Outcome<(Vec<u8>, usize)> {
    // SAFETY: by this function's contract.
    let template = unsafe { attributes_of(template, count)? };
    let mut out = Vec::with_capacity(template.len() * HEAD);
    let mut room = 0usize;
    for attribute in template {
        let capacity = if is_template(attribute.type_) {
            room += 4096;
            UNLIMITED
        } else if attribute.pValue.is_null() {
            LENGTH_ONLY
        } else {
            let capacity = u32::try_from(attribute.ulValueLen)
                .unwrap_or(UNLIMITED)
                .min(UNLIMITED);
            room += capacity as usize;
            capacity
        };
        room += 16;
        encode_query(&mut out, attribute.type_, capacity);
    }
    Ok((out, room))
}

/// Writes the answers into the caller's template; the result of C_GetAttributeValue.
///
/// # Safety
/// As PKCS#11 has it: `count` attributes, each value that is not null with the room of its length.
pub unsafe fn fill(template: *mut CK_ATTRIBUTE, count: CK_ULONG, answers: &[u8]) -> CK_RV {
    let Ok(answers) = attributes::decode_answers(answers) else {
        return CKR_DEVICE_ERROR;
    };
    if answers.len() as CK_ULONG != count {
        return CKR_DEVICE_ERROR;
    }
    let mut result = CKR_OK;
    for (index, answer) in answers.iter().enumerate() {
        // SAFETY: the index is below the count.
        let attribute = unsafe { &mut *template.add(index) };
        let refused = match answer.status {
            Status::Sensitive => CKR_ATTRIBUTE_SENSITIVE,
            Status::Invalid => CKR_ATTRIBUTE_TYPE_INVALID,
            Status::TooSmall => CKR_BUFFER_TOO_SMALL,
            Status::Length => {
                attribute.ulValueLen = answer.length.into();
                continue;
            }
            Status::Present if is_template(answer.kind) => {
                // SAFETY: a template's value is a template with the room of its length.
                unsafe { fill_template(attribute, answer.value, 0) }
            }
            Status::Present => {
                // SAFETY: the value is not null, and was queried with the room as capacity.
                unsafe { write_value(attribute, answer.value) }
            }
        };
        if answer.status != Status::Present {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
        }
        // A value that is withheld says more than a buffer that is too short.
        if result == CKR_OK || (result == CKR_BUFFER_TOO_SMALL && refused != CKR_OK) {
            result = refused;
        }
    }
    result
}

/// A plain value, or its length where there is no buffer.
unsafe fn write_value(attribute: &mut CK_ATTRIBUTE, value: &[u8]) -> CK_RV {
    let length = value.len() as CK_ULONG;
    if !attribute.pValue.is_null() {
        if attribute.ulValueLen < length {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            return CKR_BUFFER_TOO_SMALL;
        }
        // SAFETY: the buffer has the room of its length; the source is another mapping.
        unsafe {
            std::ptr::copy_nonoverlapping(value.as_ptr(), attribute.pValue.cast(), value.len());
        }
    }
    attribute.ulValueLen = length;
    CKR_OK
}

/// A template as the value of an attribute: first asked without a buffer, then with an array whose
/// values are null, then with buffers.
unsafe fn fill_template(attribute: &mut CK_ATTRIBUTE, value: &[u8], depth: usize) -> CK_RV {
    let Ok(inner) = decode_attributes(value) else {
        return CKR_DEVICE_ERROR;
    };
    let size = (inner.len() * size_of::<CK_ATTRIBUTE>()) as CK_ULONG;
    if attribute.pValue.is_null() {
        attribute.ulValueLen = size;
        return CKR_OK;
    }
    if attribute.ulValueLen < size || depth > DEPTH_MAX {
        attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    attribute.ulValueLen = size;
    let array: *mut CK_ATTRIBUTE = attribute.pValue.cast();
    let mut result = CKR_OK;
    for (index, (kind, value)) in inner.iter().enumerate() {
        // SAFETY: the array has room for all of them.
        let target = unsafe { &mut *array.add(index) };
        target.type_ = *kind;
        // SAFETY: by the caller's contract, one level down.
        let code = unsafe {
            if is_template(*kind) {
                fill_template(target, value, depth + 1)
            } else {
                write_value(target, value)
            }
        };
        if result == CKR_OK {
            result = code;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_transport::attributes::{Answer, decode_query, encode_answer};
    use cryptoki_sys::{CKA_CLASS, CKA_ID, CKA_LABEL, CKA_VALUE};

    fn attribute(kind: CK_ATTRIBUTE_TYPE, value: &mut [u8]) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE {
            type_: kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: value.len() as CK_ULONG,
        }
    }

    fn asking(kind: CK_ATTRIBUTE_TYPE) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE {
            type_: kind,
            pValue: std::ptr::null_mut(),
            ulValueLen: 0,
        }
    }

    #[test]
    fn templates_nest_on_the_wire() {
        let (mut label, mut class) = (*b"inner", 4u64.to_le_bytes());
        let mut inner = [attribute(CKA_LABEL, &mut label)];
        let outer = [
            attribute(CKA_CLASS, &mut class),
            CK_ATTRIBUTE {
                type_: CKA_WRAP_TEMPLATE,
                pValue: inner.as_mut_ptr().cast(),
                ulValueLen: size_of::<CK_ATTRIBUTE>() as CK_ULONG,
            },
        ];
        let bytes = unsafe { encode(outer.as_ptr(), 2) }.unwrap();
        let mut expected = Vec::new();
        encode_attribute(&mut expected, CKA_CLASS, &4u64.to_le_bytes());
        let mut wrapped = Vec::new();
        encode_attribute(&mut wrapped, CKA_LABEL, b"inner");
        encode_attribute(&mut expected, CKA_WRAP_TEMPLATE, &wrapped);
        assert_eq!(*bytes, expected);
        assert_eq!(bytes.capacity(), bytes.len());

        // And back, in the three steps of the standard.
        let mut answers = Vec::new();
        encode_answer(
            &mut answers,
            &Answer::of_value(CKA_WRAP_TEMPLATE, &wrapped, UNLIMITED),
        );
        let mut target = asking(CKA_WRAP_TEMPLATE);
        assert_eq!(unsafe { fill(&mut target, 1, &answers) }, CKR_OK);
        assert_eq!(target.ulValueLen as usize, size_of::<CK_ATTRIBUTE>());
        let mut inside = [asking(0)];
        target.pValue = inside.as_mut_ptr().cast();
        assert_eq!(unsafe { fill(&mut target, 1, &answers) }, CKR_OK);
        assert_eq!((inside[0].type_, inside[0].ulValueLen), (CKA_LABEL, 5));
        let mut value = [0u8; 5];
        inside = [attribute(CKA_LABEL, &mut value)];
        target.pValue = inside.as_mut_ptr().cast();
        assert_eq!(unsafe { fill(&mut target, 1, &answers) }, CKR_OK);
        assert_eq!(&value, b"inner");
    }

    #[test]
    fn a_template_that_points_nowhere_is_refused() {
        let broken = [CK_ATTRIBUTE {
            type_: CKA_ID,
            pValue: std::ptr::null_mut(),
            ulValueLen: 4,
        }];
        unsafe {
            assert_eq!(
                encode(broken.as_ptr(), 1).err(),
                Some(CKR_ATTRIBUTE_VALUE_INVALID)
            );
            assert_eq!(encode(std::ptr::null(), 1).err(), Some(CKR_ARGUMENTS_BAD));
            assert_eq!(encode(std::ptr::null(), 0).unwrap().len(), 0);
        }
    }

    #[test]
    fn the_good_attributes_are_filled_beside_the_bad() {
        let mut buffer = [0u8; 4];
        let mut short = [0u8; 1];
        let mut template = [
            attribute(CKA_ID, &mut buffer),
            asking(CKA_LABEL),
            asking(CKA_VALUE),
            attribute(CKA_LABEL, &mut short),
        ];
        let (bytes, _) = unsafe { query(template.as_ptr(), 4) }.unwrap();
        assert_eq!(
            decode_query(&bytes).unwrap(),
            [
                (CKA_ID, 4),
                (CKA_LABEL, LENGTH_ONLY),
                (CKA_VALUE, LENGTH_ONLY),
                (CKA_LABEL, 1)
            ]
        );
        let mut answers = Vec::new();
        for answer in [
            Answer::of_value(CKA_ID, b"abc", 4),
            Answer::of_value(CKA_LABEL, b"label", LENGTH_ONLY),
            Answer::refused(CKA_VALUE, Status::Sensitive),
            Answer::of_value(CKA_LABEL, b"label", 1),
        ] {
            encode_answer(&mut answers, &answer);
        }
        let result = unsafe { fill(template.as_mut_ptr(), 4, &answers) };
        assert_eq!(result, CKR_ATTRIBUTE_SENSITIVE);
        assert_eq!(&buffer[..3], b"abc");
        assert_eq!(
            template.map(|a| a.ulValueLen),
            [3, 5, CK_UNAVAILABLE_INFORMATION, CK_UNAVAILABLE_INFORMATION]
        );
    }
}
