//! Orders and answers may be longer than a packet (the headers of a message travel in them): a parcel is
//! one packet with the length (and descriptors), then as many packets as it takes.

use crate::as_user::Wire;
use crate::sys::fd_passing;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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

/// Receives one value; none if the other end closed before it began.
pub fn receive<M: Wire>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; CHUNK];
    let (length, descriptors) = fd_passing::receive(&socket, &mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    let announced = u64::from_wire(&buffer[..length]).map_err(io::Error::other)?;
    let whole = usize::try_from(announced).unwrap_or(usize::MAX);
    if whole > MAX_PARCEL {
        return Err(io::Error::other("order is too long"));
    }
    let mut bytes = Vec::new();
    while bytes.len() < whole {
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

    #[test]
    fn a_parcel_longer_than_a_packet_arrives_whole() {
        let (here, there) = fd_passing::packet_pair().unwrap();
        let text = BString::from(vec![b'x'; 1_000_000]);
        let copy = text.clone();
        let sender = std::thread::spawn(move || send(&here, &copy, &[]));
        assert_eq!(receive::<BString>(&there).unwrap().unwrap().0, text);
        sender.join().unwrap().unwrap();
        assert!(receive::<BString>(&there).unwrap().is_none());
    }
}
