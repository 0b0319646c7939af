//! Queries for attributes and their answers (`Operation::GetAttributes`).
//!
//! A query is a list of (u64 type, u32 capacity); an answer is a list of (u64 type, u32 status, u32
//! length) in the same order, with `length` bytes of value behind each whose status is `Present`.
//! The operation's result is CKR_OK although single attributes may be refused: which CKR_ value the
//! caller of C_GetAttributeValue gets follows from the statuses. An attribute whose value is
//! attributes (CKA_WRAP_TEMPLATE and its kind) comes as a template's bytes.

use crate::fields::{Malformed, Reader};

/// Capacity in a query: only the length of the value is wanted.
pub const LENGTH_ONLY: u32 = u32::MAX;

/// What became of one attribute of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The value follows.
    Present = 0,
    /// Sensitive or unextractable: not shown.
    Sensitive = 1,
    /// The object has no such attribute.
    Invalid = 2,
    /// Only the length was wanted; no value follows.
    Length = 3,
    /// The value is longer than the capacity; its length is told, no value follows.
    TooSmall = 4,
}

impl Status {
    fn from_code(code: u32) -> Option<Self> {
        [
            Self::Present,
            Self::Sensitive,
            Self::Invalid,
            Self::Length,
            Self::TooSmall,
        ]
        .into_iter()
        .find(|status| *status as u32 == code)
    }
}

/// One attribute of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// CK_ATTRIBUTE_TYPE.
    pub kind: u64,
    /// What became of it.
    pub status: Status,
    /// The value's length in bytes; 0 if sensitive or invalid.
    pub length: u32,
    /// The value; empty unless `Present`.
    pub value: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The answer for an attribute with this value, under the capacity of the query.
    pub fn of_value(kind: u64, value: &'a [u8], capacity: u32) -> Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let status = match capacity {
            LENGTH_ONLY => Status::Length,
            capacity if length > capacity => Status::TooSmall,
            _ => Status::Present,
        };
        Self {
            kind,
            status,
            length,
            value: if status == Status::Present {
                value
            } else {
                &[]
            },
        }
    }

    /// The answer for an attribute that is not shown.
    pub fn refused(kind: u64, status: Status) -> Self {
        Self {
            kind,
            status,
            length: 0,
            value: &[],
        }
    }
}

/// Appends one attribute to a query.
pub fn encode_query(out: &mut Vec<u8>, kind: u64, capacity: u32) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&capacity.to_le_bytes());
}

/// The (type, capacity) pairs of a query.
pub fn decode_query(bytes: &[u8]) -> Result<Vec<(u64, u32)>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut query = Vec::with_capacity(bytes.len() / 12);
    while !reader.is_empty() {
        query.push((reader.u64()?, reader.u32()?));
    }
    Ok(query)
}

/// Appends one attribute to an answer.
pub fn encode_answer(out: &mut Vec<u8>, answer: &Answer<'_>) {
    out.extend_from_slice(&answer.kind.to_le_bytes());
    out.extend_from_slice(&(answer.status as u32).to_le_bytes());
    out.extend_from_slice(&answer.length.to_le_bytes());
    if answer.status == Status::Present {
        out.extend_from_slice(answer.value);
    }
}

/// The attributes of an answer.
pub fn decode_answers(bytes: &[u8]) -> Result<Vec<Answer<'_>>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut answers = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u64()?;
        let offset = reader.offset();
        let status = Status::from_code(reader.u32()?).ok_or(Malformed { offset })?;
        let offset = reader.offset();
        let length = reader.u32()?;
        let value = match status {
            Status::Present => {
                reader.bytes(usize::try_from(length).map_err(|_| Malformed { offset })?)?
            }
            _ => &[],
        };
        answers.push(Answer {
            kind,
            status,
            length,
            value,
        });
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_query_survives_its_bytes(query in proptest::collection::vec(any::<(u64, u32)>(), 0..20)) {
            let mut bytes = Vec::new();
            query.iter().for_each(|(kind, capacity)| encode_query(&mut bytes, *kind, *capacity));
            prop_assert_eq!(decode_query(&bytes), Ok(query));
        }

        #[test]
        fn an_answer_survives_its_bytes(values in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40), prop_oneof![0u32..50, Just(LENGTH_ONLY)], any::<bool>()), 0..10)) {
            let answers: Vec<_> = values
                .iter()
                .map(|(kind, value, capacity, shown)| {
                    if *shown {
                        Answer::of_value(*kind, value, *capacity)
                    } else {
                        Answer::refused(*kind, Status::Sensitive)
                    }
                })
                .collect();
            let mut bytes = Vec::new();
            answers.iter().for_each(|answer| encode_answer(&mut bytes, answer));
            prop_assert_eq!(decode_answers(&bytes), Ok(answers));
        }

        #[test]
        fn any_bytes_decode_or_say_where_not(bytes in proptest::collection::vec(prop_oneof![Just(0u8), 0u8..6, any::<u8>()], 0..100)) {
            match decode_answers(&bytes) {
                Ok(answers) => {
                    let mut again = Vec::new();
                    answers.iter().for_each(|answer| encode_answer(&mut again, answer));
                    prop_assert_eq!(again, bytes);
                }
                Err(error) => prop_assert!(error.offset <= bytes.len()),
            }
        }
    }

    #[test]
    fn a_value_beyond_its_capacity_tells_its_length_only() {
        let answer = Answer::of_value(3, b"four", 3);
        assert_eq!(
            (answer.status, answer.length, answer.value),
            (Status::TooSmall, 4, &b""[..])
        );
        assert_eq!(
            Answer::of_value(3, b"four", LENGTH_ONLY).status,
            Status::Length
        );
        assert_eq!(Answer::of_value(3, b"four", 4).value, b"four");
    }
}
