//! `casemate bench`'s measuring process: one PKCS#11 library, or AWS-LC itself.
//!
//! Rust and not Python: a call from Python costs more than most of the operations that are measured
//! here, and the interpreter's lock would stand between threads. What to measure, in which order and
//! what it means is decided in Python (`casemate.bench`), which runs one such process for each library,
//! so that no library shares a process, a CPU time or a crash with another.
//!
//! It reads commands from standard input (`command`) and ends at its end.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod command;
mod crossing;
mod failure;
mod histogram;
mod keys;
mod library;
mod measure;
mod operation;
mod raw;
mod token;

use std::io::{BufRead, Write};

fn main() -> std::io::Result<()> {
    let mut bench = command::Bench::default();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        writeln!(output, "{}", bench.answer(&line?))?;
        output.flush()?;
    }
    Ok(())
}
