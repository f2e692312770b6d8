//! Roles and rights: which process does what under which uid, how they are started, and how they speak.
//!
//! The table in [`role`] is the one place that says who may do what; everything else here obeys it.
//! DESIGN.md section 2 tells why it is cut this way.
pub mod certificate_status;
pub mod children;
pub mod confinement;
pub mod delivery_worker;
pub mod drop_box;
mod elsewhere;
pub mod interfaces;
pub mod ipc;
pub mod keeper_link;
pub mod keeper_wire;
pub mod links;
pub mod listeners;
pub mod master;
pub mod openmetrics;
pub mod order_check;
pub mod order_shape;
pub mod orders;
mod own_lists;
pub mod parcel;
mod peer_lists;
pub mod reading;
pub mod relink;
pub mod restarts;
pub mod role;
pub mod role_main;
pub mod root_keeper;
pub mod services;
pub mod smtp_worker;
pub mod snapshot;
pub mod spool_directory;
pub mod staple_keeper;
pub mod submit_line;
pub mod submit_socket;
pub mod thread_pool;
pub mod trigger;
pub mod user_child;
pub mod without_root;
