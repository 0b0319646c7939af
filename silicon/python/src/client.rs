//! The queue client for the Python API. Not Python: it writes shared memory in place and waits on it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, RwLock};

use casemate_transport::client::{
    ConnectError, Connection, Request, SubmitError, Ticket as QueueTicket,
};
use casemate_transport::message::{RequestHeader, ResponseHeader};
use pyo3::create_exception;
use pyo3::exceptions::{PyConnectionError, PyOSError, PyPermissionError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

use crate::pipeline::Batch;

create_exception!(
    casemate._silicon,
    LostError,
    PyConnectionError,
    "The connection to the module has ended."
);

fn lost() -> PyErr {
    LostError::new_err(
        "the connection to the module has ended; it stopped, restarted, or this process forked",
    )
}

fn submit_failed(error: SubmitError) -> PyErr {
    match error {
        SubmitError::Lost => lost(),
        SubmitError::TooLarge => {
            PyValueError::new_err("the message is larger than a message may be (16 MiB)")
        }
        SubmitError::NoBulk | SubmitError::Busy => PyOSError::new_err(
            "the partition's quota of mapped bytes leaves no room for so large a message",
        ),
    }
}

fn connect_failed(path: &std::path::Path, error: &ConnectError) -> PyErr {
    let text = format!("{}: {error}", path.display());
    match error {
        ConnectError::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            PyPermissionError::new_err(text)
        }
        _ => PyConnectionError::new_err(text),
    }
}

/// Serves one peer of a proxy on a connected stream socket (the descriptor is taken over), until it
/// goes.
#[pyfunction]
pub fn serve_proxy_peer(py: Python<'_>, descriptor: i32, module: PathBuf) -> PyResult<()> {
    use std::os::fd::FromRawFd;
    // SAFETY: the caller gives the descriptor away (socket.detach() in Python).
    let peer = unsafe { std::os::unix::net::UnixStream::from_raw_fd(descriptor) };
    py.detach(|| casemate_transport::stream::serve_peer(peer, &module))
        .map_err(|error| PyOSError::new_err(error.to_string()))
}

fn slices(list: &[PyBackedBytes]) -> Vec<&[u8]> {
    list.iter().map(|bytes| bytes.as_ref()).collect()
}

type Answer<'py> = (u64, Bound<'py, PyBytes>, u64, u64);

/// A request that is on its way.
#[pyclass(module = "casemate._silicon", frozen)]
pub struct Ticket(Mutex<Option<QueueTicket>>);

/// A connection to a partition.
#[pyclass(module = "casemate._silicon", frozen)]
pub struct Client {
    connection: RwLock<Option<Connection>>,
    name: String,
    instance: u64,
}

impl Client {
    fn with<T>(&self, act: impl FnOnce(&Connection) -> PyResult<T>) -> PyResult<T> {
        let connection = self
            .connection
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        act(connection.as_ref().ok_or_else(lost)?)
    }
}

fn keep(response: ResponseHeader, output: &[u8]) -> (ResponseHeader, Zeroizing<Vec<u8>>) {
    (response, Zeroizing::new(output.to_vec()))
}

#[pymethods]
impl Client {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let connection = py
            .detach(|| Connection::open(&path))
            .map_err(|e| connect_failed(&path, &e))?;
        Ok(Self {
            name: connection.welcome().name.clone(),
            instance: connection.welcome().instance,
            connection: RwLock::new(Some(connection)),
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn instance(&self) -> u64 {
        self.instance
    }

    #[pyo3(signature = (operation, *, flags=0, session=0, object=0, mechanism=0, aux=0, parameters=b"".as_slice(), first=b"".as_slice(),
                        second=b"".as_slice(), data=b"".as_slice(), capacity=16384))]
    #[allow(clippy::too_many_arguments)]
    fn call<'py>(
        &self,
        py: Python<'py>,
        operation: u16,
        flags: u16,
        session: u64,
        object: u64,
        mechanism: u64,
        aux: u64,
        parameters: &[u8],
        first: &[u8],
        second: &[u8],
        data: &[u8],
        capacity: u32,
    ) -> PyResult<Answer<'py>> {
        let header = RequestHeader {
            operation,
            flags,
            session,
            object,
            mechanism,
            aux,
            capacity,
            ..RequestHeader::default()
        };
        let request = Request {
            header,
            parameters,
            first,
            second,
            data,
        };
        let (response, output) = py.detach(|| {
            self.with(|connection| {
                connection
                    .call(&request, &mut Connection::patience(), keep)
                    .map_err(submit_failed)
            })
        })?;
        Ok((
            response.result,
            PyBytes::new(py, &output),
            response.value0,
            response.value1,
        ))
    }

    #[pyo3(signature = (operation, *, session, object, mechanism, parameters, first, data, window,
                        stop_at_failure, tail_first))]
    #[allow(clippy::too_many_arguments)]
    fn call_many<'py>(
        &self,
        py: Python<'py>,
        operation: u16,
        session: u64,
        object: u64,
        mechanism: u64,
        parameters: Vec<PyBackedBytes>,
        first: Vec<PyBackedBytes>,
        data: Vec<PyBackedBytes>,
        window: usize,
        stop_at_failure: bool,
        tail_first: usize,
    ) -> PyResult<Vec<(u64, Bound<'py, PyBytes>)>> {
        for (name, list) in [("parameters", &parameters), ("first", &first)] {
            if list.len() != 1 && list.len() != data.len() {
                let (found, wanted) = (list.len(), data.len());
                return Err(PyValueError::new_err(format!(
                    "{found} {name} for {wanted} pieces of data: expected 1 or {wanted}"
                )));
            }
        }
        let answers = py.detach(|| {
            let (parameters, first, data) = (slices(&parameters), slices(&first), slices(&data));
            let batch = Batch {
                header: RequestHeader {
                    operation,
                    session,
                    object,
                    mechanism,
                    ..RequestHeader::default()
                },
                parameters: &parameters,
                first: &first,
                data: &data,
                window,
                stop_at_failure,
                tail_first,
            };
            self.with(|connection| batch.run(connection).map_err(submit_failed))
        })?;
        let mut begin = 0;
        let outputs = answers.ends.iter().map(|(result, end)| {
            let output = answers.bytes.get(begin..*end).unwrap_or(&[]);
            begin = *end;
            (*result, PyBytes::new(py, output))
        });
        Ok(outputs.collect())
    }

    #[pyo3(signature = (operation, *, flags=0, session=0, object=0, mechanism=0, aux=0, parameters=b"".as_slice(), first=b"".as_slice(),
                        second=b"".as_slice(), data=b"".as_slice(), capacity=16384))]
    #[allow(clippy::too_many_arguments)]
    fn submit(
        &self,
        py: Python<'_>,
        operation: u16,
        flags: u16,
        session: u64,
        object: u64,
        mechanism: u64,
        aux: u64,
        parameters: &[u8],
        first: &[u8],
        second: &[u8],
        data: &[u8],
        capacity: u32,
    ) -> PyResult<Ticket> {
        let header = RequestHeader {
            operation,
            flags,
            session,
            object,
            mechanism,
            aux,
            capacity,
            ..RequestHeader::default()
        };
        let request = Request {
            header,
            parameters,
            first,
            second,
            data,
        };
        let ticket = py.detach(|| {
            self.with(|connection| connection.submit(&request).map_err(submit_failed))
        })?;
        Ok(Ticket(Mutex::new(Some(ticket))))
    }

    fn wait<'py>(&self, py: Python<'py>, ticket: &Ticket) -> PyResult<Answer<'py>> {
        let taken = ticket
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| PyValueError::new_err("the ticket has been waited for already"))?;
        let (response, output) = py.detach(|| {
            self.with(|connection| {
                connection
                    .wait(taken, &mut Connection::patience(), keep)
                    .map_err(|_| lost())
            })
        })?;
        Ok((
            response.result,
            PyBytes::new(py, &output),
            response.value0,
            response.value1,
        ))
    }

    fn is_ready(&self, ticket: &Ticket) -> PyResult<bool> {
        let held = ticket.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_ref() {
            None => Ok(true),
            Some(ticket) => self.with(|connection| Ok(connection.is_ready(ticket))),
        }
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.connection
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        });
    }
}
