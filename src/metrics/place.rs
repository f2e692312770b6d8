//! `openmetrics_listen`: where the numbers are shown. Only this host is told them: a port of a loopback address, or a
//! socket in the file system.

use bstr::{BStr, ByteSlice};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenPlace {
    /// A Unix socket.
    Socket(PathBuf),
    /// A port of this host alone.
    Port(SocketAddr),
}

/// A value that names no such place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Neither path nor address.
    #[error(
        "it must be the absolute path of a Unix socket, or a loopback address and port (127.0.0.1:9125, [::1]:9125)"
    )]
    Malformed,
    /// An address that others can reach.
    #[error(
        "{0} can be reached from other hosts: use 127.0.0.1:{port} or [::1]:{port}, and a proxy that asks who it is if \
         others are to see it", port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// Port 0 would be another one at each start.
    #[error("port 0 names no port")]
    NoPort,
    /// The kernel takes no more.
    #[error("the path of a Unix socket has at most {LONGEST_PATH} bytes")]
    LongPath,
}

/// The kernel's 107, and room for the suffix under which a new socket is made.
const LONGEST_PATH: usize = 90;

impl ListenPlace {
    /// Reads the option's value; none if it is empty.
    pub fn parse(value: &BStr) -> Result<Option<Self>, PlaceError> {
        let value = value.trim();
        if value.is_empty() {
            return Ok(None);
        }
        if value.starts_with(b"/") {
            if value.ends_with(b"/") || value.contains(&0) {
                return Err(PlaceError::Malformed);
            }
            if value.len() > LONGEST_PATH {
                return Err(PlaceError::LongPath);
            }
            let path = value.to_path().map_err(|_| PlaceError::Malformed)?;
            return Ok(Some(Self::Socket(path.to_owned())));
        }
        let text = value.to_str().map_err(|_| PlaceError::Malformed)?;
        let address: SocketAddr = text.parse().map_err(|_| PlaceError::Malformed)?;
        match address {
            other if !other.ip().is_loopback() => Err(PlaceError::NotLoopback(other)),
            zero if zero.port() == 0 => Err(PlaceError::NoPort),
            port => Ok(Some(Self::Port(port))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Option<ListenPlace>, PlaceError> {
        ListenPlace::parse(value.into())
    }

    #[test]
    fn a_path_or_a_loopback_port_is_a_place_and_nothing_that_others_can_reach() {
        assert_eq!(parse(" "), Ok(None));
        assert_eq!(parse("/run/oxim/metrics"), Ok(Some(ListenPlace::Socket("/run/oxim/metrics".into()))));
        for port in ["127.0.0.1:9125", "127.3.2.1:9125", "[::1]:9125"] {
            assert_eq!(parse(port), Ok(Some(ListenPlace::Port(port.parse().unwrap()))));
        }
        for open in ["0.0.0.0:9125", "[::]:9125", "192.0.2.1:9125", "[2001:db8::1]:9125"] {
            let error = parse(open).unwrap_err();
            assert!(error.to_string().contains("use 127.0.0.1:9125"), "{error}");
        }
        for nonsense in ["run/metrics", "9125", "localhost:9125", "127.0.0.1", "/run/", "127.0.0.1:x"] {
            assert_eq!(parse(nonsense), Err(PlaceError::Malformed), "{nonsense}");
        }
        assert_eq!(parse("127.0.0.1:0"), Err(PlaceError::NoPort));
        assert_eq!(parse(&format!("/{}", "x".repeat(LONGEST_PATH))), Err(PlaceError::LongPath));
    }
}
