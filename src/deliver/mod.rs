//! One message out: all its addresses.
