//! The staple keeper: looks after the status of certificates, and after revocation lists, without being asked.
//!
//! | file | what |
//! |---|---|
//! | `matter` | one thing that is looked after, and one attempt: question, answer, check |
//! | `queue` | whose turn it is: limits and fairness between responders |
//! | `engine` | the state of all of it; a machine without clock, socket or disk |
//! | `runner` | drives the engine with real time, threads, sockets and [the store](super::store) |
//! | [`schedule`](super::schedule) | when each thing is asked about |

mod engine;
mod matter;
mod queue;
mod runner;

pub use engine::{Engine, Holder, Job, MAX_LISTS, News, Tidings};
pub use matter::{CheckList, Found, LIST_DEADLINE, List, MAX_CERTIFICATE, Matter, Outcome};
pub use queue::{MAX_AT_FAILING, MAX_FOR_EACH, MAX_RUNNING};
pub use runner::{Event, Runner, Settings};
