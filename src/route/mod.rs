//! Routers: where an address goes.
