//! SMTP authenticators: their options; none acts yet.
pub mod options;
