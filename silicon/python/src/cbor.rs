//! The reader of CBOR (RFC 8949) behind `casemate.formats.cbor.decode`, which says what is taken.
//!
//! Rust and not Python: a token alone has some seventy items, and reading them in Python took a
//! quarter of the time of verifying its signatures. It makes Python's values and no others, reaches
//! no key, and recurses no deeper than it is told.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString};

pyo3::import_exception!(casemate.formats.cbor, CborError);

/// The one item that `data` is. `tag` makes a tagged item of its number and its value.
#[pyfunction]
pub fn read_cbor<'py>(
    tag: &Bound<'py, PyAny>,
    data: &[u8],
    most_items: usize,
    deepest: u8,
) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader {
        py: tag.py(),
        tag,
        data,
        at: 0,
        items: 0,
        most_items,
        deepest,
    };
    let value = reader.item(0)?.value;
    if reader.at == data.len() {
        Ok(value)
    } else {
        refuse("unexpected bytes after the item", reader.at)
    }
}

fn refuse<T>(message: impl Into<String>, offset: usize) -> PyResult<T> {
    Err(CborError::new_err((message.into(), offset)))
}

/// Most characters of a key that an error shows.
const KEY_SHOWN: usize = 40;

/// The text, cut where it is longer than an error shows.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(KEY_SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// An item, and whether it may be a map's key: a number or a string.
struct Item<'py> {
    value: Bound<'py, PyAny>,
    is_key: bool,
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    tag: &'a Bound<'py, PyAny>,
    data: &'a [u8],
    at: usize,
    items: usize,
    most_items: usize,
    deepest: u8,
}

impl<'a, 'py> Reader<'a, 'py> {
    fn item(&mut self, depth: u8) -> PyResult<Item<'py>> {
        let start = self.at;
        self.items += 1;
        if self.items > self.most_items {
            return refuse(format!("more than {} items", self.most_items), start);
        }
        if depth > self.deepest {
            return refuse(format!("nested deeper than {}", self.deepest), start);
        }
        let Some(&first) = self.data.get(start) else {
            return refuse("expected an item, found the end", start);
        };
        let argument = self.argument(first, start)?;
        let major = first >> 5;
        let value = match major {
            0 => argument.into_pyobject(self.py)?.into_any(),
            1 => match i64::try_from(argument) {
                Ok(number) => (-1 - number).into_pyobject(self.py)?.into_any(),
                Err(_) => (-1 - i128::from(argument))
                    .into_pyobject(self.py)?
                    .into_any(),
            },
            2 => PyBytes::new(self.py, self.string(argument, start)?).into_any(),
            3 => match str::from_utf8(self.string(argument, start)?) {
                Ok(text) => PyString::new(self.py, text).into_any(),
                Err(_) => return refuse("a text string is not UTF-8", start),
            },
            4 => self.array(argument, start, depth)?,
            5 => self.map(argument, start, depth)?,
            6 => {
                let inner = self.item(depth.saturating_add(1))?.value;
                self.tag.call1((argument, inner))?
            }
            _ => match argument {
                20 | 21 => PyBool::new(self.py, argument == 21).to_owned().into_any(),
                22 => self.py.None().into_bound(self.py),
                _ => return refuse(format!("simple value {argument} is not taken"), start),
            },
        };
        Ok(Item {
            value,
            is_key: major < 4,
        })
    }

    /// The argument of an item (section 3); `at` is behind it then.
    fn argument(&mut self, first: u8, start: usize) -> PyResult<u64> {
        let short = first & 31;
        if short < 24 {
            self.at = start + 1;
            return Ok(u64::from(short));
        }
        if short > 27 {
            return refuse("indefinite or reserved length", start);
        }
        let size = 1usize << (short - 24);
        let Some(bytes) = self.data.get(start + 1..start + 1 + size) else {
            return refuse("cut off", start);
        };
        let argument = bytes
            .iter()
            .fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
        let least = if size == 1 { 24 } else { 1 << (4 * size) };
        if first >> 5 == 7 || argument < least {
            return refuse(
                "not in its shortest form, or a float or simple value",
                start,
            );
        }
        self.at = start + 1 + size;
        Ok(argument)
    }

    fn string(&mut self, size: u64, start: usize) -> PyResult<&'a [u8]> {
        let found = usize::try_from(size)
            .ok()
            .and_then(|size| self.at.checked_add(size))
            .and_then(|end| Some((end, self.data.get(self.at..end)?)));
        let Some((end, bytes)) = found else {
            return refuse(format!("a string of {size} bytes is cut off"), start);
        };
        self.at = end;
        Ok(bytes)
    }

    /// Refuse a count that the rest of the input cannot hold, before anything is made.
    fn room(&self, count: u128, start: usize) -> PyResult<()> {
        if count > (self.data.len() - self.at) as u128 {
            return refuse(format!("{count} items cannot follow"), start);
        }
        Ok(())
    }

    fn array(&mut self, count: u64, start: usize, depth: u8) -> PyResult<Bound<'py, PyAny>> {
        self.room(u128::from(count), start)?;
        let found = PyList::empty(self.py);
        for _ in 0..count {
            found.append(self.item(depth.saturating_add(1))?.value)?;
        }
        Ok(found.into_any())
    }

    fn map(&mut self, count: u64, start: usize, depth: u8) -> PyResult<Bound<'py, PyAny>> {
        self.room(2 * u128::from(count), start)?;
        let found = PyDict::new(self.py);
        for _ in 0..count {
            let key_at = self.at;
            let key = self.item(depth.saturating_add(1))?;
            if !key.is_key {
                return refuse("a map key is no number and no string", key_at);
            }
            if found.contains(&key.value)? {
                let shown = shortened(key.value.repr()?.to_str()?);
                return refuse(format!("the key {shown} stands twice"), key_at);
            }
            found.set_item(key.value, self.item(depth.saturating_add(1))?.value)?;
        }
        Ok(found.into_any())
    }
}
