//! Certificate status proofs (RFC 6960): parsed, checked, and judged usable at a time.
//!
//! GnuTLS parses and verifies signatures; the judgement is ours, since GnuTLS alone accepts proofs that
//! say nothing good (an unknown status, an unsigned tryLater, a proof from the future, one signed by any
//! other trusted authority). Server and client judge by the same code: rows S5 to S7 and C4.
//!
//! New proofs are fetched ([`obtain`]): [`http`] is bytes, [`fetch`] the connection, and the answer is judged as above.
//! [`keeper`] does so by itself, for what [`registry`] says is wanted.
//!
//! Where certificate status is not compiled in, every response is [`Unfit::Malformed`]. Revocation lists ([`crl`]), the
//! older way to the same knowledge, are always there.

pub mod change;
pub mod crl;
mod crl_der;
pub mod fetch;
pub mod http;
pub mod keeper;
pub mod obtain;
mod proof;
pub mod proof_file;
pub mod registry;
pub mod schedule;
pub mod standing;
pub mod store;
mod unfit;

pub use crl::{Crl, MAX_CRL_SIZE, UnfitCrl};
pub use obtain::{ObtainError, Way, obtain};
pub use proof::{MAX_PROOF_SIZE, Proof, Subject};
pub use unfit::Unfit;
