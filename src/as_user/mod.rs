//! Orders that need a user's rights: what they say and what comes back. Types only; `process::user_child` carries
//! them out in a process that has become that user, and the drivers hold the code that does the work.
//!
//! Invariant: an order names everything it needs (paths, modes, limits, all expanded); whoever carries it
//! out reads no other configuration than the one it checks the order against (DESIGN.md 2, threat model).
pub mod order;
pub mod users;
pub mod wire;

pub use order::{
    Answer, Append, AsUser, CheckFiles, Done, FileRead, Format, Identity, Order, Ran, ReadFile, Run, Trouble,
};
pub use users::SystemUsers;
pub use wire::{Wire, WireError};
