//! Domain, host, address and local part lists.
