//! From the written configuration to the meant one.
