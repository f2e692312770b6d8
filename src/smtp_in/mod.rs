//! One SMTP connection: greeting, command loop, one `cmd_*` file for each verb.
//!
//! Specification: RFC 5321, RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 3207
//! (STARTTLS), and the chapter "SMTP processing"; reply texts and log lines are those recorded from Exim.
//!
//! The entry points are [`serve`] (a TCP connection, in a thread of its own) and [`serve_stdio`] (`-bs`).
pub mod stream;

mod cmd_data;
mod cmd_helo;
mod cmd_mail;
mod cmd_other;
mod cmd_rcpt;
mod cmd_starttls;
mod command;
mod data_reader;
mod greeting;
mod limits;
mod reject;
mod session;
pub mod tls_session;
mod transaction;
mod wire;

pub use cmd_data::{added_header, rejected_headers};

use crate::acl::{Acls, Runner};
use crate::expand::context::Context;
use crate::log::panic_text;
use crate::mail::Origin;
use crate::receive::{Caller, Station};
use crate::upward::Verifier;
use bstr::{BString, ByteSlice};
use session::{Next, Session};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What all sessions of one configuration share.
#[derive(Clone)]
pub struct Server {
    /// Configuration, spool, logs, message ids, and whom to tell of a new message.
    pub station: Station,
    /// The ACLs.
    pub acls: Arc<Acls>,
    /// Address verification.
    pub verifier: Arc<dyn Verifier + Send + Sync>,
    /// TLS ([`tls_session::Acceptor`]); none: STARTTLS is never advertised.
    pub tls: Option<Arc<dyn stream::TlsAcceptor>>,
    /// Login name of the user that oxim runs as: the originator of what comes over TCP.
    pub login: BString,
    /// Set when the process is to end: sessions answer 421 at their next command and close.
    pub stop: Arc<AtomicBool>,
}

/// A TCP connection as it was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// The peer.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Connections open when it came (`$smtp_count_at_connection_start`), itself included.
    pub count: u32,
    /// TLS from the first byte (`tls_on_connect_ports`, `-tls-on-connect`).
    pub tls_on_connect: bool,
    /// `smtp_accept_queue` is passed: messages are queued and not delivered at once.
    pub queue_only: bool,
    /// `-G`: messages are not fixed up.
    pub suppress_fixups: bool,
}

/// How `-bs` was called.
#[derive(Clone, Debug)]
pub struct LocalCall {
    /// Who calls.
    pub caller: Caller,
    /// `$sender_ident`: the login name, or `-oMt`.
    pub ident: BString,
    /// `-oMa` and kin: the peer that a trusted caller names. One with an address counts as remote.
    pub origin: Option<Origin>,
    /// `-odq` and kin: messages are queued and not delivered at once.
    pub queue_only: bool,
    /// `-bnq`: addresses without domain are refused.
    pub no_qualify: bool,
    /// `-G`: messages are not fixed up.
    pub suppress_fixups: bool,
}

/// Serves one TCP connection to its end. It never panics: what panics inside ends this session with 421 and
/// a line in the panic log.
pub fn serve(server: &Server, stream: TcpStream, how: Connected) {
    let goodbye = stream.try_clone().ok();
    let served = catch_unwind(AssertUnwindSafe(|| serve_tcp(server, stream, how)));
    if let Err(cause) = served {
        let text = panic_text(&*cause);
        let line = format!("SMTP session with [{}] ended by an internal error: {text}", how.peer.ip());
        server.station.log.panic(line.as_bytes().as_bstr());
        if let Some(mut stream) = goodbye
            && !how.tls_on_connect
        {
            let text = b"421 Service not available - closing connection\r\n";
            let _ = stream::Transport::write_all(&mut stream, text, GOODBYE_TIME);
        }
    }
}

/// Time for the 421 of a session that failed.
const GOODBYE_TIME: std::time::Duration = std::time::Duration::from_secs(5);

fn serve_tcp(server: &Server, stream: TcpStream, how: Connected) {
    let runner = Runner::new(&server.acls, &*server.verifier, &server.stop);
    let mut context = Context::new(Arc::clone(&server.station.globals), &runner);
    context.session.origin = Origin {
        host: Some(plain_address(how.peer)),
        interface: Some((plain_address(how.local).ip(), how.local.port())),
        protocol: "smtp".into(),
        ..Origin::default()
    };
    context.session.count_at_start = how.count;
    let mut session = Session::new(server, &runner, stream::Connection::Clear(stream), context);
    session.queue_only = how.queue_only;
    session.tls_on_connect = how.tls_on_connect;
    session.suppress_fixups = how.suppress_fixups;
    session.log_connection(how.count);
    session.run();
}

/// IPv4 that came in over an IPv6 socket is IPv4.
fn plain_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Serves `-bs`: SMTP with a local caller on two descriptors. True if it ended with QUIT.
pub fn serve_stdio(server: &Server, transport: Box<dyn stream::Transport>, call: LocalCall) -> bool {
    let served = catch_unwind(AssertUnwindSafe(|| {
        let runner = Runner::new(&server.acls, &*server.verifier, &server.stop);
        let mut context = Context::new(Arc::clone(&server.station.globals), &runner);
        context.session.origin = call.origin.clone().unwrap_or_else(|| Origin {
            local: true,
            ident: Some(call.ident.clone()),
            authenticated_id: Some(call.caller.login.clone()),
            protocol: "local-smtp".into(),
            ..Origin::default()
        });
        context.session.caller_uid = call.caller.uid;
        context.session.caller_gid = call.caller.gid;
        let mut session = Session::new(server, &runner, stream::Connection::Other(transport), context);
        session.queue_only = call.queue_only;
        session.suppress_fixups = call.suppress_fixups;
        session.local = Some(call);
        session.log_local_connection();
        session.run()
    }));
    match served {
        Ok(end) => end == Next::Quit,
        Err(cause) => {
            let text = panic_text(&*cause);
            let line = format!("SMTP session with a local caller ended by an internal error: {text}");
            server.station.log.panic(line.as_bytes().as_bstr());
            false
        }
    }
}
