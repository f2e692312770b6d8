//! Orders and answers may be longer than a packet (the headers of a message travel in them): a parcel is
//! one packet with the length (and descriptors), then as many packets as it takes.

use super::orders::wait_readable;
use crate::as_user::Wire;
use crate::sys::fd_passing;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Longest parcel: the headers of a message (`header_maxsize`, 1M by default) and room to spare.
pub const MAX_PARCEL: usize = 64 * 1024 * 1024;
/// Bytes in one packet: well below the default send buffer of a socket.
const CHUNK: usize = 32 * 1024;

/// Sends one value with these descriptors.
pub fn send<M: Wire>(socket: impl AsFd, value: &M, descriptors: &[BorrowedFd]) -> io::Result<()> {
    send_bytes(socket, &value.to_wire(), descriptors)
}

/// Sends one value that is already in its wire form.
pub fn send_bytes(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
    if bytes.len() > MAX_PARCEL {
        return Err(io::Error::other("order is too long"));
    }
    fd_passing::send(&socket, &(bytes.len() as u64).to_wire(), descriptors)?;
    bytes.chunks(CHUNK).try_for_each(|chunk| fd_passing::send(&socket, chunk, &[]))
}

/// Receives one value of at most `most` bytes within `patience`; none if the other end closed before it began.
pub fn receive<M: Wire>(
    socket: impl AsFd,
    most: usize,
    patience: Duration,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let end = Instant::now() + patience;
    let left = || end.saturating_duration_since(Instant::now());
    let mut buffer = vec![0; CHUNK];
    wait_readable(&socket, left())?;
    let (length, descriptors) = fd_passing::receive(&socket, &mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    let announced = u64::from_wire(&buffer[..length]).map_err(io::Error::other)?;
    let whole = usize::try_from(announced).unwrap_or(usize::MAX);
    if whole > most {
        return Err(io::Error::other("order is too long"));
    }
    let mut bytes = Vec::new();
    while bytes.len() < whole {
        wait_readable(&socket, left())?;
        let (length, _) = fd_passing::receive(&socket, &mut buffer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..length]);
    }
    let value = M::from_wire(&bytes).map_err(io::Error::other)?;
    Ok(Some((value, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstr::BString;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_parcel_that_is_too_long_or_never_ends_is_given_up() {
        let (here, there) = fd_passing::packet_pair().unwrap();
        send(&here, &BString::from(vec![b'x'; 2000]), &[]).unwrap();
        assert!(receive::<BString>(&there, 1000, PATIENCE).is_err());
        let (here, there) = fd_passing::packet_pair().unwrap();
        fd_passing::send(&here, &500_u64.to_wire(), &[]).unwrap();
        fd_passing::send(&here, b"x", &[]).unwrap();
        let given_up = receive::<BString>(&there, 1000, Duration::from_millis(50)).unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_parcel_longer_than_a_packet_arrives_whole() {
        let (here, there) = fd_passing::packet_pair().unwrap();
        let text = BString::from(vec![b'x'; 1_000_000]);
        let copy = text.clone();
        let sender = std::thread::spawn(move || send(&here, &copy, &[]));
        assert_eq!(receive::<BString>(&there, MAX_PARCEL, PATIENCE).unwrap().unwrap().0, text);
        sender.join().unwrap().unwrap();
        assert!(receive::<BString>(&there, MAX_PARCEL, PATIENCE).unwrap().is_none());
    }
}
