//! Messages with descriptors over Unix sockets (SCM_RIGHTS), and who is at the other end (SO_PEERCRED).

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, sendmsg, socketpair, sockopt,
};
use std::io::{self, IoSlice};
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
    // Taken over before anything is judged: what is not owned would stay open, and a peer could send more than fit
    // again and again. (nix's `recvmsg` gives none of them out if some did not fit.)
    let (length, descriptors, flags) = receive_all(socket.as_fd(), buffer)?;
    if flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((length, descriptors))
}

/// Room for [`MOST_DESCRIPTORS`], aligned as a `cmsghdr` has to be.
#[repr(C)]
struct ControlRoom {
    _aligned: [libc::cmsghdr; 0],
    bytes: [u8; CONTROL_BYTES],
}

// SAFETY: CMSG_SPACE is arithmetic on its argument.
const CONTROL_BYTES: usize =
    unsafe { libc::CMSG_SPACE((MOST_DESCRIPTORS * size_of::<RawFd>()) as libc::c_uint) } as usize;

#[allow(clippy::unnecessary_cast, reason = "lengths have another type in other C libraries")]
fn receive_all(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>, libc::c_int)> {
    let mut room = ControlRoom { _aligned: [], bytes: [0; CONTROL_BYTES] };
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a msghdr without address, data and control room.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    let length = loop {
        message.msg_control = room.bytes.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the message names a buffer and a room that live longer than the call, with their true lengths.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(received) {
            Ok(length) => break length,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled the room and set msg_controllen to what it used.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give headers that lie wholly in what the kernel has filled.
        let (level, kind, whole) = unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN is arithmetic on its argument.
            let bytes = (whole as usize).saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for at in 0..bytes / size_of::<RawFd>() {
                // SAFETY: the header says that so many numbers follow it; they need not be aligned.
                let number = unsafe { libc::CMSG_DATA(header).cast::<RawFd>().add(at).read_unaligned() };
                // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok((length, descriptors, message.msg_flags))
}

/// Whether it is a socket of this machine; asked without touching what else it could be.
pub fn is_unix_socket(fd: impl AsFd) -> bool {
    let mut domain: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: value and length live longer than the call, and the length is the value's.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut length,
        )
    };
    answer == 0 && domain == libc::AF_UNIX
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
    fn descriptors_that_do_not_fit_are_refused_and_none_stays_open() {
        // A pipe end is seen to be open by its other end.
        let (here, there) = packet_pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send(&here, b"take", &vec![writer.as_fd(); MOST_DESCRIPTORS + 30]).unwrap();
        drop(writer);
        let refused = receive(&there, &mut [0; 16]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        let mut polled = [nix::poll::PollFd::new(reader.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut polled, nix::poll::PollTimeout::ZERO).unwrap();
        assert!(polled[0].any().unwrap(), "the writing end is still open");

        let (reader, writer) = std::io::pipe().unwrap();
        send(&here, b"take", &vec![writer.as_fd(); MOST_DESCRIPTORS]).unwrap();
        drop(writer);
        assert_eq!(receive(&there, &mut [0; 16]).unwrap().1.len(), MOST_DESCRIPTORS);
        drop(reader);
    }

    #[test]
    fn a_file_and_a_socket_of_the_network_are_no_unix_sockets() {
        assert!(is_unix_socket(packet_pair().unwrap().0));
        assert!(!is_unix_socket(tempfile::tempfile().unwrap()));
        assert!(!is_unix_socket(std::net::TcpListener::bind("127.0.0.1:0").unwrap()));
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (here, _there) = packet_pair().unwrap();
        let (pid, uid, _) = peer(&here).unwrap();
        assert_eq!((pid, uid), (std::process::id() as i32, nix::unistd::getuid().as_raw()));
    }
}
