//! The reader of DER (ITU-T X.690) behind `casemate.formats.der_reader`, which says what is taken.
//!
//! Rust and not Python: a chain of five certificates has about five hundred elements, and walking
//! them in Python took longer than verifying the chain. What an element means stays in Python.
//! Nothing here recurses, and nothing here reaches a key.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

pyo3::import_exception!(casemate.formats.der_reader, DerError);

const CONSTRUCTED: u8 = 0x20;

fn refuse<T>(message: impl Into<String>, offset: usize) -> PyResult<T> {
    Err(DerError::new_err((message.into(), offset)))
}

/// One TLV.
#[pyclass(frozen, module = "casemate._silicon")]
pub struct Element {
    source: Py<PyBytes>,
    /// Where the source begins in the outermost input.
    base: usize,
    #[pyo3(get)]
    tag: u8,
    start: usize,
    content: Range<usize>,
}

impl Element {
    fn slice<'py>(&self, py: Python<'py>, range: Range<usize>) -> Bound<'py, PyBytes> {
        let bytes = self.source.as_bytes(py);
        PyBytes::new(py, bytes.get(range).unwrap_or_default())
    }

    fn is(&self, tag: u8, what: &str) -> PyResult<()> {
        if self.tag == tag {
            return Ok(());
        }
        let found = self.tag;
        refuse(
            format!("expected {what} (tag {tag:02x}), found tag {found:02x}"),
            self.offset(),
        )
    }
}

#[pymethods]
impl Element {
    #[getter]
    fn offset(&self) -> usize {
        self.base + self.start
    }

    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.slice(py, self.content.clone())
    }

    #[getter]
    fn encoded<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.slice(py, self.start..self.content.end)
    }

    fn expect<'py>(this: Bound<'py, Self>, tag: u8, what: &str) -> PyResult<Bound<'py, Self>> {
        this.get().is(tag, what)?;
        Ok(this)
    }

    fn children(&self, py: Python<'_>) -> PyResult<Reader> {
        if self.tag & CONSTRUCTED == 0 {
            return refuse(
                format!("tag {:02x} holds no elements", self.tag),
                self.offset(),
            );
        }
        Ok(Reader {
            source: self.source.clone_ref(py),
            base: self.base,
            position: self.content.start,
            end: self.content.end,
        })
    }

    fn __repr__(&self) -> String {
        format!("Element(tag={:#04x}, offset={})", self.tag, self.offset())
    }
}

/// Reads elements one after another.
#[pyclass(module = "casemate._silicon", name = "ElementReader")]
pub struct Reader {
    source: Py<PyBytes>,
    base: usize,
    position: usize,
    end: usize,
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (data, start=0))]
    fn new(data: Bound<'_, PyBytes>, start: usize) -> Self {
        let end = data.as_bytes().len();
        Self {
            source: data.unbind(),
            base: start,
            position: 0,
            end,
        }
    }

    #[getter]
    fn offset(&self) -> usize {
        self.base + self.position
    }

    fn at_end(&self) -> bool {
        self.position >= self.end
    }

    fn peek(&self, py: Python<'_>) -> Option<u8> {
        if self.at_end() {
            return None;
        }
        self.source.as_bytes(py).get(self.position).copied()
    }

    #[pyo3(signature = (tag=None, what="an element"))]
    fn next(&mut self, py: Python<'_>, tag: Option<u8>, what: &str) -> PyResult<Element> {
        let source = self.source.as_bytes(py);
        let data = source.get(..self.end).unwrap_or_default();
        let (found, content) = match header(data, self.position, what) {
            Ok(found) => found,
            Err(message) => return refuse(message, self.offset()),
        };
        let element = Element {
            source: self.source.clone_ref(py),
            base: self.base,
            tag: found,
            start: self.position,
            content,
        };
        if let Some(tag) = tag {
            element.is(tag, what)?;
        }
        self.position = element.content.end;
        Ok(element)
    }

    fn end(&self, what: &str) -> PyResult<()> {
        if self.at_end() {
            return Ok(());
        }
        refuse(format!("unexpected bytes after {what}"), self.offset())
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Element>> {
        if self.at_end() {
            return Ok(None);
        }
        self.next(py, None, "an element").map(Some)
    }
}

/// The tag of the element at a position, and where its content stands; else what is wrong.
pub(crate) fn header(
    data: &[u8],
    position: usize,
    what: &str,
) -> Result<(u8, Range<usize>), String> {
    let (tag, first) = match data.get(position..) {
        Some(&[tag, first, ..]) => (tag, first),
        Some(&[_]) => return Err("cut off after the tag".into()),
        _ => return Err(format!("expected {what}, found the end")),
    };
    if tag & 0x1f == 0x1f {
        return Err("tag numbers above 30 are not taken".into());
    }
    let mut body = position + 2;
    let mut size = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        let bytes = match data.get(body..body + count) {
            Some(bytes) if (1..=4).contains(&count) => bytes,
            _ => return Err("length is indefinite, too long or cut off".into()),
        };
        size = bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | usize::from(byte));
        if size < 0x80 || bytes.first() == Some(&0) {
            return Err("length is not in its shortest form".into());
        }
        body += count;
    }
    let left = data.len() - body;
    if size > left {
        return Err(format!("content of {size} bytes, but only {left} are left"));
    }
    Ok((tag, body..body + size))
}
