//! The listening sockets: bound by the master, handed to the SMTP worker, kept over a reload where they still serve.

use super::master::Plan;
use crate::sys::listen;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Binds every address of the plan; where one of the `old` sockets listens there already, another handle of it is taken.
/// On failure nothing has happened to the old ones.
pub fn bind(plan: &Plan, old: &[TcpListener]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut bound = Vec::new();
    for address in &plan.listen {
        let known = old.iter().find(|listener| listener.local_addr().is_ok_and(|local| local == *address));
        let made = match known {
            Some(listener) => listener.try_clone(),
            None => listen::tcp(*address, plan.backlog),
        };
        match made {
            Ok(listener) => bound.push(listener),
            // No IPv6 here, but IPv4 was asked for as well.
            Err(_) if is_spare_wildcard(*address, &plan.listen) => {}
            Err(error) => return Err((*address, error)),
        }
    }
    Ok(bound)
}

fn is_spare_wildcard(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let twin =
        |other: &SocketAddr| other.is_ipv4() && other.ip().is_unspecified() && other.port() == address.port();
    address.is_ipv6()
        && address.ip().is_unspecified()
        && !std::path::Path::new("/proc/sys/net/ipv6").exists()
        && all.iter().any(twin)
}

#[cfg(test)]
mod tests {
    use super::super::master::tests::plan;
    use super::*;

    #[test]
    fn a_port_that_cannot_be_bound_leaves_the_old_sockets_in_use() {
        let old = bind(&plan(vec!["127.0.0.1:0".parse().unwrap()]), &[]).unwrap();
        let kept = old[0].local_addr().unwrap();
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = foreign.local_addr().unwrap();
        let (address, _) = bind(&plan(vec![kept, taken]), &old).unwrap_err();
        assert_eq!(address, taken);
        let client = std::net::TcpStream::connect(kept).unwrap();
        assert_eq!(old[0].accept().unwrap().1, client.local_addr().unwrap());
        let again = bind(&plan(vec![kept]), &old).unwrap();
        assert_eq!(again[0].local_addr().unwrap(), kept);
    }
}
