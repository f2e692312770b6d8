//! Room 1 of unsafe: system calls that have no safe wrapper, and those whose wrong use costs the system its safety.
//!
//! Nothing here knows of mail. Invariants: rights are given up in one checked act (`identity`); a process
//! forks only while it has one thread (`spawn`); every descriptor of ours is close-on-exec.
pub mod descriptors;
pub mod environment;
pub mod fd_passing;
pub mod file_lock;
pub mod files;
pub mod identity;
pub mod inherited;
pub mod limits;
pub mod listen;
pub mod sandbox;
pub mod sealed;
pub mod secure;
pub mod shared_words;
pub mod signals;
pub mod spawn;
mod words;

pub use words::{errno_words, system_words};
