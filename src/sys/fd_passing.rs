//! Messages with descriptors over Unix sockets (SCM_RIGHTS), and who is at the other end (SO_PEERCRED).

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, getsockopt, recvmsg,
    sendmsg, socketpair, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors in one message; the kernel's limit is 253.
pub const MOST_DESCRIPTORS: usize = 64;

/// A pair of sockets that keep message boundaries.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// A pair of datagram sockets: a full queue refuses, and no reader is no error.
pub fn datagram_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message with these descriptors. A peer that is gone is an error, never a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    send_with(socket, bytes, descriptors, MsgFlags::empty())
}

/// As [`send`], but a full queue is the error `WouldBlock`.
pub fn try_send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    send_with(socket, bytes, descriptors, MsgFlags::MSG_DONTWAIT)
}

fn send_with(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd], flags: MsgFlags) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage] = if numbers.is_empty() { &[] } else { &rights };
    loop {
        let slices = [IoSlice::new(bytes)];
        match sendmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &slices,
            control,
            flags | MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one message: its bytes and descriptors (close-on-exec). No bytes: the peer is gone.
/// A message that does not fit, or whose descriptors do not, is an error.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let (length, descriptors, flags) = loop {
        let mut slices = [IoSliceMut::new(buffer)];
        match recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(message) => {
                let mut descriptors = Vec::new();
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(numbers) = control {
                        // SAFETY: the kernel has just made these descriptors for us; nothing else knows them.
                        descriptors.extend(
                            numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
                        );
                    }
                }
                break (message.bytes, descriptors, message.flags);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((length, descriptors))
}

/// The process at the other end of a connected Unix socket, as it was when it connected: pid, uid, gid.
pub fn peer(socket: impl AsFd) -> io::Result<(i32, u32, u32)> {
    let peer = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
    Ok((peer.pid(), peer.uid(), peer.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (here, there) = packet_pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"inside").unwrap();
        send(&here, b"take", &[file.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let (length, descriptors) = receive(&there, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], descriptors.len()), (&b"take"[..], 1));
        let mut copy = std::fs::File::from(descriptors.into_iter().next().unwrap());
        io::Seek::rewind(&mut copy).unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
    }

    #[test]
    fn a_message_larger_than_the_buffer_is_refused_and_a_closed_peer_is_no_bytes() {
        let (here, there) = packet_pair().unwrap();
        send(&here, b"too long", &[]).unwrap();
        assert!(receive(&there, &mut [0; 3]).is_err());
        drop(here);
        assert_eq!(receive(&there, &mut [0; 3]).unwrap().0, 0);
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (here, _there) = packet_pair().unwrap();
        let (pid, uid, _) = peer(&here).unwrap();
        assert_eq!((pid, uid), (std::process::id() as i32, nix::unistd::getuid().as_raw()));
    }
}
