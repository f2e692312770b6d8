//! One message in: from bytes to a committed spool entry.
