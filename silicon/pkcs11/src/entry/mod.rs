//! The C functions, a file for each chapter of the standard.

pub mod asynchronous;
pub mod decrypt;
pub mod digest;
pub mod dual;
pub mod encrypt;
pub mod general;
pub mod key;
pub mod message;
pub mod object;
pub mod random;
pub mod session;
pub mod sign;
pub mod slot;
pub mod verify;
