//! Plays the parity cases: the same text file against exim4 (to record) and against oxim.

pub mod case;
pub mod dialogue;
pub mod hidden;
#[path = "../name_server.rs"]
pub mod name_server;
pub mod normalise;
pub mod one_user;
pub mod play;
pub mod world;
