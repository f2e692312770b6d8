//! Room 2 of unsafe code: the only code that names a GnuTLS function.
