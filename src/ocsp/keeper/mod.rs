//! The staple keeper: looks after the status of certificates, and after revocation lists, without being asked.
//!
//! | file | what |
//! |---|---|
//! | `matter` | one thing that is looked after, and one attempt: question, answer, check |
//! | `queue` | whose turn it is: limits and fairness between responders |
//! | `engine` | the state of all of it; a machine without clock, socket or disk |
//! | `runner` | drives the engine with real time, threads, sockets and [the store](super::store) |
//! | [`schedule`](super::schedule) | when each thing is asked about |
//!
//! How it behaves in each kind of trouble is [the manual's fault table](crate::manual::fault_table).

mod engine;
mod matter;
mod queue;
mod runner;

pub use engine::{Engine, Holder, Job, LISTS_AT_ONCE, News, PROOFS_AT_ONCE, Tidings};
pub use matter::{Found, LIST_DEADLINE_FACTOR, MAX_CERTIFICATE, Matter, Outcome};
pub use queue::MAX_FOR_EACH;
pub use runner::{Event, Runner, Settings};
