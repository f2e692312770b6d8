//! From a TCP connect to a session that can take a message: greeting, EHLO, STARTTLS, EHLO again
//! (RFC 5321 section 3.1, RFC 3207).

use super::connection::{Connection, Stream};
use super::policy::Policy;
use super::trouble::{Failure, Scope, exim_errno, host_field};
use crate::expand::context::Globals;
use crate::log::Log;
use crate::mail::Reply;
use crate::mail::envelope::TlsInfo;
use crate::metrics::{Counter, Counters, Side};
use crate::ocsp::registry::Registry;
use crate::tls::{Audience, ClientRequest, ClientTls, Notice};
use crate::transport::Host;
use bstr::{BString, ByteSlice};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What the peer can do, from its EHLO reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// SIZE (RFC 1870) was offered.
    pub size: bool,
    /// PIPELINING (RFC 2920)
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152)
    pub eight_bit: bool,
    /// STARTTLS (RFC 3207)
    pub starttls: bool,
    /// DSN (RFC 3461)
    pub dsn: bool,
}

impl Features {
    /// Reads an EHLO reply: the first line is the greeting.
    pub fn of(reply: &Reply) -> Self {
        let mut features = Self::default();
        for line in reply.text.lines().skip(1) {
            let keyword = line.fields().next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_slice() {
                b"SIZE" => features.size = true,
                b"PIPELINING" => features.pipelining = true,
                b"8BITMIME" => features.eight_bit = true,
                b"STARTTLS" => features.starttls = true,
                b"DSN" => features.dsn = true,
                _ => {}
            }
        }
        features
    }
}

/// A session that can take a message.
pub struct Session {
    /// The connection.
    pub connection: Connection,
    /// What the peer offers now, under the TLS it has.
    pub features: Features,
    /// TLS, if there is any.
    pub tls: Option<TlsInfo>,
    /// Our address and port.
    pub interface: Option<(IpAddr, u16)>,
    /// Messages sent so far.
    pub messages: u32,
    /// A transaction was begun and not ended: RSET comes before the next one.
    pub needs_reset: bool,
}

/// Connects and brings the session to where MAIL may be said. What is to be logged on the way (going on
/// in clear after a failed handshake) is given to `log`.
pub fn open(
    host: &Host,
    policy: &Policy,
    tls: &ClientTls,
    log: &dyn Fn(Audience, &[u8]),
    globals: &Globals,
) -> Result<Session, Failure> {
    let (watch, counters, registry) = (&globals.log, &globals.counters, globals.status.as_ref());
    let target = Target { host, policy, tls, log, watch, counters, registry };
    match target.open(policy.avoid_tls) {
        Err(Opening::TlsFailed(text, _)) if policy.may_go_clear() => {
            let mut line = BString::from(format!("TLS session: {text}: delivering unencrypted to H="));
            line.extend_from_slice(&host_field(host));
            line.extend_from_slice(b" (not in hosts_require_tls)");
            log(Audience::Main, &line);
            target.open(true).map_err(|opening| opening.into_failure(policy))
        }
        Err(opening) => {
            if let Opening::TlsFailed(text, _) = &opening
                && policy.dane
            {
                let mut line = BString::from("DANE attempt failed; TLS connection to ");
                line.extend_from_slice(&host_field(host));
                line.extend_from_slice(format!(": {text}").as_bytes());
                log(Audience::Main, &line);
            }
            Err(opening.into_failure(policy))
        }
        Ok(session) => Ok(session),
    }
}

/// Why a session could not be opened.
enum Opening {
    Failed(Box<Failure>),
    /// The handshake or the verification failed, in Exim's words after `TLS session: `; and whether it was the verification.
    TlsFailed(String, bool),
}

impl Opening {
    /// A certificate or status that is not good enough for this policy may be for another (row C7).
    fn into_failure(self, policy: &Policy) -> Failure {
        match self {
            Self::Failed(failure) => *failure,
            Self::TlsFailed(text, verified) => {
                let text = format!("TLS session: {text}");
                let mut failure = Failure::new(Scope::Host, exim_errno::TLS_FAILURE, text);
                failure.problem.requirement = policy.tls.requirement.clone().filter(|_| verified);
                failure
            }
        }
    }
}

impl From<Failure> for Opening {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// One host, and all that is needed to reach it.
struct Target<'a> {
    host: &'a Host,
    policy: &'a Policy,
    tls: &'a ClientTls,
    log: &'a dyn Fn(Audience, &[u8]),
    watch: &'a Arc<Log>,
    counters: &'a Counters,
    registry: Option<&'a Registry>,
}

/// `$tls_out_resumption` tells of a ticket too, which under TLS 1.3 comes with what the server says first.
fn with_ticket(mut info: TlsInfo, connection: &Connection) -> TlsInfo {
    if connection.ticket_has_come() {
        info.tickets |= 8;
    }
    info
}

impl Target<'_> {
    fn open(&self, avoid_tls: bool) -> Result<Session, Opening> {
        let socket = self.connect()?;
        let interface = socket.local_addr().ok().map(|address| (address.ip(), address.port()));
        let (stream, tls) = if self.policy.tls_on_connect {
            let (stream, info) = self.start_tls(socket)?;
            (stream, Some(info))
        } else {
            (Stream::Clear(socket), None)
        };
        let mut connection = Connection::new(stream);
        connection.watch(self.watch);
        connection.set_limit(self.policy.limits.command);
        check_greeting(&mut connection).map_err(|failure| self.first_read(failure))?;
        let features = say_hello(&mut connection, &self.policy.helo, self.policy.avoid_esmtp)?;
        let tls = tls.map(|info| with_ticket(info, &connection));
        let mut session = Session { connection, features, tls, interface, messages: 0, needs_reset: false };
        if session.tls.is_some() {
            return Ok(session);
        }
        match (session.features.starttls && !avoid_tls, self.policy.require_tls) {
            (true, _) => self.upgrade(session),
            (false, true) => {
                session.connection.say_quit();
                Err(if session.features.starttls { no_start() } else { no_offer() }.into())
            }
            (false, false) => Ok(session),
        }
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let made = connect(self.host, self.policy);
        self.counters.count(match made {
            Ok(_) => Counter::ConnectionsOpened,
            Err(_) => Counter::ConnectionsFailed,
        });
        if self.watch.is_shown() {
            let address = self.host.address.map_or_else(String::new, |address| address.to_string());
            let how = match &made {
                Ok(_) => "connected".to_owned(),
                Err(failure) => format!("failed: {}", failure.problem.text),
            };
            let (name, port) = (&self.host.name, self.policy.port);
            self.watch.remark(format!("Connecting to {name} [{address}]:{port} ...  {how}"));
        }
        made
    }

    fn upgrade(&self, mut session: Session) -> Result<Session, Opening> {
        let reply = command(&mut session.connection, b"STARTTLS")?;
        if reply.code != 220 {
            return refused_starttls(session, self.policy, &reply).map_err(Opening::from);
        }
        let socket = session
            .connection
            .into_clear_socket()
            .map_err(|trouble| Failure::trouble(Scope::Host, b"STARTTLS", &trouble))?;
        let (stream, info) = self.start_tls(socket)?;
        let mut connection = Connection::new(stream);
        connection.watch(self.watch);
        connection.set_limit(self.policy.limits.command);
        // All that was offered in clear is forgotten (RFC 3207 section 4.2).
        let features = say_hello(&mut connection, &self.policy.helo, self.policy.avoid_esmtp)
            .map_err(|failure| self.first_read(failure))?;
        let tls = Some(with_ticket(info, &connection));
        Ok(Session { connection, features, tls, ..session })
    }

    /// With TLS 1.3 a server's refusal of our certificate, or of our having none, comes after the handshake: when we first
    /// read.
    fn first_read(&self, failure: Failure) -> Opening {
        if failure.problem.errno != exim_errno::TLS_FAILURE {
            return failure.into();
        }
        let mut line = BString::from("H=");
        line.extend_from_slice(&host_field(self.host));
        line.push(b' ');
        line.extend_from_slice(&failure.problem.text);
        (self.log)(Audience::Main, &line);
        Opening::TlsFailed("error on first read".to_owned(), false)
    }

    fn start_tls(&self, socket: TcpStream) -> Result<(Stream, TlsInfo), Opening> {
        let policy = &self.policy.tls;
        if let Some(text) = &policy.broken {
            (self.log)(Audience::Panic, text);
            return Err(Opening::TlsFailed("Internal error".to_owned(), false));
        }
        let request = ClientRequest {
            settings: &policy.files,
            ciphers: policy.ciphers.as_ref().map(|text| text.as_slice()),
            sni: policy.sni.as_ref().map(|name| name.as_slice()),
            verify: policy.verify,
            host_name: policy.verify_names.then_some(self.host.name.as_slice()),
            request_ocsp: policy.request_ocsp,
            require_ocsp: policy.require_ocsp,
            require_status: policy.require_status,
            registry: self.registry,
            resume: policy.resume,
            deadline: Some(Instant::now() + self.policy.limits.command),
            on_connect: self.policy.tls_on_connect,
            now: SystemTime::now(),
            notify: &|notice: Notice| self.tell(&notice),
            terms: policy.terms.clone(),
        };
        match self.tls.connect(socket, &request) {
            Ok((stream, info)) => {
                self.counters.handshake(Side::Out, &info);
                Ok((Stream::Tls(Box::new(stream)), info))
            }
            Err(error) => {
                self.counters.count(Counter::OutTlsFailed);
                Err(Opening::TlsFailed(error.to_string(), error.is_of_the_certificate()))
            }
        }
    }

    fn tell(&self, notice: &Notice) {
        let mut line = BString::from("H=");
        line.extend_from_slice(&host_field(self.host));
        line.extend_from_slice(b": ");
        line.extend_from_slice(&notice.text);
        (self.log)(notice.audience, &line);
    }
}

fn no_offer() -> Failure {
    let text = "a TLS session is required, but the server did not offer TLS support";
    Failure::new(Scope::Host, exim_errno::TLS_REQUIRED, text)
}

/// Offered, but not begun or not agreed on.
fn no_start() -> Failure {
    let text = "a TLS session is required, but an attempt to start TLS failed";
    Failure::new(Scope::Host, exim_errno::TLS_REQUIRED, text)
}

fn connect(host: &Host, policy: &Policy) -> Result<TcpStream, Failure> {
    let address = host.address.ok_or_else(|| {
        Failure::new(Scope::Host, -1, format!("no IP address found for host {}", host.name))
    })?;
    let target = SocketAddr::new(address, policy.port);
    let socket = super::connect::connect(target, policy.interface, policy.limits.connect)
        .map_err(|error| Failure::connect(&error))?;
    if policy.keepalive {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::KeepAlive, &true)
            .map_err(|errno| Failure::connect(&errno.into()))?;
    }
    // Our writes are whole commands and large pieces: waiting to join them only costs round trips.
    socket.set_nodelay(true).map_err(|error| Failure::connect(&error))?;
    Ok(socket)
}

fn check_greeting(connection: &mut Connection) -> Result<(), Failure> {
    let stage = b"initial connection";
    let reply = connection.read_reply().map_err(|trouble| Failure::trouble(Scope::Host, stage, &trouble))?;
    if reply.code / 100 == 2 { Ok(()) } else { Err(unwelcome(connection, stage, &reply)) }
}

/// The peer does not want us: QUIT, and the reason.
fn unwelcome(connection: &mut Connection, stage: &[u8], reply: &Reply) -> Failure {
    connection.say_quit();
    Failure::reply(Scope::Host, stage, reply, 0)
}

/// EHLO, and HELO if the peer refuses it; 421 says that the peer is about to close (RFC 5321 section 3.8).
fn say_hello(
    connection: &mut Connection,
    name: impl AsRef<[u8]>,
    only_helo: bool,
) -> Result<Features, Failure> {
    let name = name.as_ref();
    if !only_helo {
        let reply = command(connection, &line("EHLO ", name))?;
        if reply.code / 100 == 2 {
            return Ok(Features::of(&reply));
        }
        if reply.code == 421 {
            return Err(unwelcome(connection, &line("EHLO ", name), &reply));
        }
    }
    let helo = line("HELO ", name);
    let reply = command(connection, &helo)?;
    if reply.code / 100 == 2 { Ok(Features::default()) } else { Err(unwelcome(connection, &helo, &reply)) }
}

fn line(verb: &str, argument: &[u8]) -> Vec<u8> {
    [verb.as_bytes(), argument].concat()
}

/// One command and its reply; no reply is the host's problem.
fn command(connection: &mut Connection, line: &[u8]) -> Result<Reply, Failure> {
    connection.put_line(line);
    connection
        .flush_out()
        .and_then(|()| connection.read_reply())
        .map_err(|trouble| Failure::trouble(Scope::Host, line, &trouble))
}

fn refused_starttls(mut session: Session, policy: &Policy, reply: &Reply) -> Result<Session, Failure> {
    if policy.require_tls {
        session.connection.say_quit();
        return Err(no_start());
    }
    if reply.is_temporary() && !policy.clear_after_tempfail {
        session.connection.say_quit();
        return Err(Failure::reply(Scope::Host, b"STARTTLS", reply, 0));
    }
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_in_any_case_and_the_greeting_line_is_none() {
        let features =
            Features::of(&Reply::new(250, "SIZE.example hello\nPIPELINING\nsize 100\n8bitmime\nX"));
        let expected = Features { size: true, pipelining: true, eight_bit: true, ..Features::default() };
        assert_eq!(features, expected);
    }

    #[test]
    fn helo_follows_an_ehlo_that_is_refused_but_not_a_421() {
        use std::io::{BufRead, BufReader, Write};
        let heard_after = |refusal: &'static str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let server = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut heard = Vec::new();
                for line in BufReader::new(socket.try_clone().unwrap()).lines().map_while(Result::ok) {
                    let reply = if line.starts_with("EHLO") { refusal } else { "250 ok" };
                    heard.push(line);
                    // nobody waits for the answer to QUIT
                    let _ = write!(socket, "{reply}\r\n");
                }
                heard
            });
            let mut connection = Connection::new(Stream::Clear(client));
            let said = say_hello(&mut connection, "us", false);
            drop(connection);
            (said.map_err(|failure| failure.problem.text), server.join().unwrap())
        };
        for refusal in ["550 no EHLO", "451 not now"] {
            let (said, heard) = heard_after(refusal);
            assert_eq!((said, heard), (Ok(Features::default()), vec!["EHLO us".into(), "HELO us".into()]));
        }
        let (said, heard) = heard_after("421 busy");
        assert_eq!(said.unwrap_err(), "SMTP error from remote mail server after EHLO us: 421 busy");
        assert_eq!(heard, ["EHLO us", "QUIT"]);
    }
}
