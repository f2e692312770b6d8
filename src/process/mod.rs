//! Roles, privileges and the processes that play them.
