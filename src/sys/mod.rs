//! Room 1 of unsafe code: system calls that have no safe wrapper. Knows nothing of mail.

pub mod file_lock;
