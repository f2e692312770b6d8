//! Certificate status proofs (RFC 6960): parsed, checked, and judged usable at a time.
//!
//! GnuTLS parses and verifies signatures; the judgement is ours, since GnuTLS alone accepts proofs that
//! say nothing good (an unknown status, an unsigned tryLater, a proof from the future, one signed by any
//! other trusted authority). Server and client judge by the same code: rows S5 to S7 and C4.
//!
//! Where certificate status is not compiled in, every response is [`Unfit::Malformed`].

mod proof;
mod unfit;

pub use proof::{MAX_PROOF_SIZE, Proof, Subject};
pub use unfit::Unfit;
