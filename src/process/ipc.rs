//! What master and roles say to each other over their control sockets: one enum for each direction, each message
//! in one packet, limited in length. Descriptors travel beside the packet.
//!
//! The first packet from either side is the build id, so an upgrade of the package never mixes versions.

use crate::as_user::{Wire, WireError};
use crate::config::build_settings::OXIM_VERSION;
use crate::sys::fd_passing;
use crate::{wire_enum, wire_struct};
use bstr::BString;
use memchr::memmem;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest packet: nothing that is said here is long; what is long travels as a descriptor.
pub const MAX_PACKET: usize = 4096;

wire_struct! {
    /// What a role is to do. Descriptors: the configuration snapshot; but for the staple keeper the memory of the counters
    /// and the sending end of the trigger; for the delivery worker its receiving end; the links with (or of) the staple
    /// keeper; the listening sockets.
    pub struct Start {
        /// Number of the configuration: 1 for the first that was read, one more for each reload.
        pub generation: u64,
        /// How many listening sockets come with it.
        pub listeners: u32,
        /// How many links.
        pub links: u32,
        /// It is the one that shows the numbers.
        pub shows: bool,
        /// The process that played this role before died.
        pub after_death: bool,
    }
}

wire_enum! {
    /// Master to role.
    pub enum ToRole {
        /// Begin.
        Start(Start) = 1,
        /// A successor has begun: finish what runs, take nothing new, then end.
        Retire(()) = 2,
        /// Finish what can be finished soon, then end.
        Stop(()) = 3,
        /// Everything is started and the log says so: the delivery worker may begin.
        Go(()) = 4,
        /// The staple keeper, or one that it serves, has been started anew, or their link was cut; descriptor: the link with
        /// it.
        Link(()) = 5,
    }
}

wire_enum! {
    /// Role to master.
    pub enum ToMaster {
        /// It works.
        Ready(()) = 1,
        /// A user child is wanted; descriptor: the socket on which it gets its orders.
        Order(()) = 2,
        /// It cannot begin, for this reason.
        Failed(BString) = 3,
        /// Its link with the staple keeper was cut: a new one is wanted.
        Relink(()) = 4,
    }
}

/// Sends one message.
pub fn say<M: Wire>(socket: impl AsFd, message: &M, descriptors: &[BorrowedFd]) -> io::Result<()> {
    let bytes = message.to_wire();
    if bytes.len() > MAX_PACKET {
        return Err(io::Error::other(WireError::Long(bytes.len())));
    }
    fd_passing::send(socket, &bytes, descriptors)
}

/// Sends one message if there is room for it: whoever does not read what it is told must not hold the teller.
pub fn try_say<M: Wire>(socket: impl AsFd, message: &M) -> io::Result<()> {
    try_say_with(socket, message, &[])
}

/// As [`try_say`], with descriptors.
pub fn try_say_with<M: Wire>(socket: impl AsFd, message: &M, descriptors: &[BorrowedFd]) -> io::Result<()> {
    let bytes = message.to_wire();
    if bytes.len() > MAX_PACKET {
        return Err(io::Error::other(WireError::Long(bytes.len())));
    }
    fd_passing::try_send(socket, &bytes, descriptors)
}

/// Receives one message; none if the other end is gone.
pub fn hear<M: Wire>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut buffer = [0; MAX_PACKET];
    let (length, descriptors) = fd_passing::receive(socket, &mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    let message = M::from_wire(&buffer[..length]).map_err(io::Error::other)?;
    Ok(Some((message, descriptors)))
}

/// Something has come over this socket, or its other end is gone.
pub fn is_readable(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
}

/// Sends our build id.
pub fn say_build_id(socket: impl AsFd) -> io::Result<()> {
    say(socket, &build_id(), &[])
}

/// Hears the other's build id; an error if it is another build.
pub fn check_build_id(socket: impl AsFd) -> io::Result<()> {
    match hear::<BString>(socket)? {
        Some((theirs, _)) if theirs == build_id() => Ok(()),
        Some((theirs, _)) => Err(io::Error::other(format!("the other process is another build ({theirs})"))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What tells this build from any other: the version and the linker's note in the program file.
pub fn build_id() -> BString {
    let mut id = BString::from(OXIM_VERSION);
    id.push(b'-');
    match linker_note() {
        Ok(Some(note)) => note.iter().for_each(|byte| id.extend_from_slice(format!("{byte:02x}").as_bytes())),
        _ => id.extend_from_slice(b"unknown"),
    }
    id
}

/// The GNU build id note stands among the first sections of an ELF file.
fn linker_note() -> io::Result<Option<[u8; 20]>> {
    use std::io::Read;
    /// Where the linker puts notes: behind the program headers.
    const SEARCHED: u64 = 16 * 1024;
    /// Name length 4, description length 20, type 3 (NT_GNU_BUILD_ID), name.
    const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let mut head = Vec::new();
    std::fs::File::open("/proc/self/exe")?.take(SEARCHED).read_to_end(&mut head)?;
    let Some(at) = memmem::find(&head, NOTE) else { return Ok(None) };
    Ok(head.get(at + NOTE.len()..at + NOTE.len() + 20).and_then(|note| note.try_into().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> ToRole {
        ToRole::Start(Start { generation: 3, ..Start::default() })
    }

    #[test]
    fn messages_arrive_whole_and_nonsense_is_an_error() {
        let (here, there) = fd_passing::packet_pair().unwrap();
        say(&here, &start(), &[]).unwrap();
        let (heard, _) = hear::<ToRole>(&there).unwrap().unwrap();
        assert_eq!(heard, start());
        fd_passing::send(&here, &[99], &[]).unwrap();
        assert!(hear::<ToRole>(&there).is_err());
        drop(here);
        assert!(hear::<ToRole>(&there).unwrap().is_none());
    }

    #[test]
    fn another_build_is_not_spoken_to() {
        let (here, there) = fd_passing::packet_pair().unwrap();
        say_build_id(&here).unwrap();
        check_build_id(&there).unwrap();
        say(&here, &BString::from("0.0.0-older"), &[]).unwrap();
        assert!(check_build_id(&there).is_err());
    }
}
