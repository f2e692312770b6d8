//! Listening sockets: address reuse, IPv6 without IPv4, backlog.

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, accept4, bind, connect,
    listen, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
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
    if is_socket(path)? {
        remove_if_there(path)?;
    }
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    // Nobody can connect before it listens.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen(&fd, Backlog::new(128).unwrap_or(Backlog::MAXCONN))?;
    Ok(fd)
}

/// Whether there is a socket; an error if there is something else, which nobody may replace with one: a path that was
/// mistyped costs no file.
pub fn is_socket(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.file_type().is_socket() => Ok(true),
        Ok(_) => Err(io::Error::other("there is something that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a socket of streams at which nobody listens any more, and nothing else.
pub fn remove_dead_stream(path: &Path) -> io::Result<()> {
    if is_socket(path)? && is_dead(path)? { remove_if_there(path) } else { Ok(()) }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Asks without waiting: one with a full queue is somebody's.
fn is_dead(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let connected = connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?);
    Ok(connected == Err(nix::errno::Errno::ECONNREFUSED))
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
    fn a_dead_socket_is_replaced_or_removed_and_never_anything_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let first = unix_stream(&path("socket")).unwrap();
        remove_dead_stream(&path("socket")).unwrap();
        assert!(path("socket").exists(), "somebody listens");
        // One that does not come round to its clients is alive, too.
        let waiting: Vec<_> =
            (0..129).map_while(|_| is_dead(&path("socket")).ok().filter(|dead| !dead)).collect();
        assert_eq!(waiting.len(), 129);
        drop(first);
        drop(unix_stream(&path("socket")).unwrap());
        remove_dead_stream(&path("socket")).unwrap();
        assert!(!path("socket").exists());
        remove_dead_stream(&path("socket")).unwrap();
        std::fs::write(path("file"), "kept").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        for name in ["file", "link", "directory"] {
            for refused in [unix_stream(&path(name)).map(drop), remove_dead_stream(&path(name))] {
                assert_eq!(
                    refused.unwrap_err().to_string(),
                    "there is something that is no socket",
                    "{name}"
                );
            }
        }
        assert_eq!(std::fs::read(path("link")).unwrap(), b"kept");
    }

    #[test]
    fn both_families_share_a_port() {
        let v4 = tcp("127.0.0.1:0".parse().unwrap(), 5).unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = tcp(SocketAddr::new("::1".parse().unwrap(), port), 5);
        assert!(v6.is_ok() || v6.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable));
    }
}
