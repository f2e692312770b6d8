//! Listening sockets: address reuse, IPv6 without IPv4, backlog.

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, accept4, bind, connect,
    listen, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Binds and listens. An IPv6 address takes IPv6 connections alone, so that `::0` and `0.0.0.0` stand side by side.
pub fn tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd: OwnedFd =
        socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    match address {
        SocketAddr::V4(v4) => bind(raw, &SockaddrIn::from(v4))?,
        SocketAddr::V6(v6) => {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
            bind(raw, &SockaddrIn6::from(v6))?;
        }
    }
    listen(&fd, Backlog::new(backlog.clamp(1, 4096)).unwrap_or(Backlog::MAXCONN))?;
    Ok(TcpListener::from(fd))
}

/// Keep-alive probes (`smtp_accept_keepalive`).
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    Ok(setsockopt(stream, sockopt::KeepAlive, &true)?)
}

/// True if the descriptor is a listening or connected TCP/IP socket (`-bs` under inetd).
pub fn is_tcp(fd: impl std::os::fd::AsFd) -> bool {
    use nix::sys::socket::SockaddrStorage;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd());
    nix::sys::socket::getpeername::<SockaddrStorage>(raw)
        .is_ok_and(|peer| peer.as_sockaddr_in().is_some() || peer.as_sockaddr_in6().is_some())
}

/// Listens at a Unix socket of packets that everyone may connect to; an old one at this path is replaced.
pub fn unix_packets(path: &Path) -> io::Result<OwnedFd> {
    unix(path, SockType::SeqPacket, 0o666)
}

/// Listens at a Unix socket of streams for our own user and group; an old one at this path is replaced.
pub fn unix_stream(path: &Path) -> io::Result<UnixListener> {
    unix(path, SockType::Stream, 0o660).map(UnixListener::from)
}

fn unix(path: &Path, kind: SockType, mode: u32) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    // Nobody can connect before it listens.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen(&fd, Backlog::new(128).unwrap_or(Backlog::MAXCONN))?;
    Ok(fd)
}

/// A send that takes longer fails.
pub fn limit_sending(socket: &OwnedFd, time: std::time::Duration) -> io::Result<()> {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Ok(setsockopt(socket, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?)
}

/// Connects to a Unix socket of packets.
pub fn connect_packets(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// The next connection of a listening socket.
pub fn accept(socket: &OwnedFd) -> io::Result<OwnedFd> {
    loop {
        match accept4(std::os::fd::AsRawFd::as_raw_fd(socket), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
            Ok(number) => return Ok(unsafe { OwnedFd::from_raw_fd(number) }),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_share_a_port() {
        let v4 = tcp("127.0.0.1:0".parse().unwrap(), 5).unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = tcp(SocketAddr::new("::1".parse().unwrap(), port), 5);
        assert!(v6.is_ok() || v6.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable));
    }
}
