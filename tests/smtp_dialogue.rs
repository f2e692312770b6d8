//! SMTP conversations as text files (tests/dialogue/*.txt), recorded from Exim 4.96 and replayed against a
//! session on loopback. What a file holds: a configuration, conversations, and the log lines they leave.
//!
//! `> line` is sent with CRLF, `>> line` without waiting for a reply (pipelining, message data), `>= bytes` as
//! written with `\r\n` escapes; other lines are the server's, `(closed)` is the end of the connection.

use oxim::acl::Acls;
use oxim::config::{self, MacroOverrides};
use oxim::dns::{Answer, Mx, Resolver, Tlsa};
use oxim::expand::Context;
use oxim::expand::context::{Globals, UserEntry, Users};
use oxim::load::tables::tables;
use oxim::log::{Log, Which};
use oxim::mail::{Address, IdGenerator, MessageId};
use oxim::receive::{Caller, Station};
use oxim::smtp_in::stream::Pipes;
use oxim::smtp_in::{Connected, LocalCall, Server, serve, serve_stdio};
use oxim::spool::Layout;
use oxim::upward::{Announce, Verified, Verifier};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

struct NoDns;
impl Resolver for NoDns {
    fn addresses(&self, _: &[u8]) -> Answer<IpAddr> {
        Answer::NoName
    }
    fn names(&self, _: IpAddr) -> Answer<bstr::BString> {
        Answer::NoName
    }
    fn mx(&self, _: &[u8]) -> Answer<Mx> {
        Answer::NoName
    }
    fn txt(&self, _: &[u8]) -> Answer<bstr::BString> {
        Answer::NoName
    }
    fn tlsa(&self, _: &[u8]) -> Answer<Tlsa> {
        Answer::NoName
    }
}

struct NoUsers;
impl Users for NoUsers {
    fn by_name(&self, _: &[u8]) -> std::io::Result<Option<UserEntry>> {
        Ok(None)
    }
    fn by_uid(&self, _: u32) -> std::io::Result<Option<UserEntry>> {
        Ok(None)
    }
    fn group(&self, _: &[u8]) -> std::io::Result<Option<u32>> {
        Ok(None)
    }
}

struct Silent;
impl Announce for Silent {
    fn ready(&self, _: &MessageId) {}
}

/// Routes by local part, as the routers of the recorded configurations did.
struct ByLocalPart;
impl Verifier for ByLocalPart {
    fn verify(&self, _: &Context, address: &Address, _: bool) -> Verified {
        let failed =
            |text: &str| Verified::Failed { message: text.into(), log_message: text.into(), forced: true };
        match address.local_part().to_string().as_str() {
            "failit" => failed("failit message"),
            "vfail" => failed("no such sender"),
            "nosuch" => failed("Unrouteable address"),
            "deferit" => Verified::Deferred {
                message: "deferit message".into(),
                log_message: "deferit message".into(),
            },
            "vdefer" => Verified::Deferred { message: "later on".into(), log_message: "later on".into() },
            _ if !["test.ex", "sender.ex"].contains(&address.lower_domain().to_string().as_str()) => {
                failed("Unrouteable address")
            }
            _ => Verified::Ok { address_data: None },
        }
    }
}

fn server(text: &str, spool: &Path) -> Server {
    let mut opener = |_: &Path| Ok(None);
    let tables = tables();
    let (written, errors) = config::read(
        Path::new("test.conf"),
        text.as_bytes(),
        &MacroOverrides::default(),
        &tables,
        &mut opener,
    );
    assert!(errors.is_empty(), "{errors:?}");
    let written = written.unwrap();
    let (mut acls, errors) = Acls::compile(&written.acls);
    assert!(errors.is_empty(), "{errors:?}");
    let errors = acls.check_options(&written.main);
    assert!(errors.is_empty(), "{errors:?}");
    let selectors = written.main.plain("log_selector").unwrap_or_default();
    let log = Arc::new(Log::memory_with(oxim::log::Selectors::parse(&selectors).unwrap()));
    let globals = Arc::new(Globals {
        primary_hostname: written.main.plain("primary_hostname").unwrap(),
        qualify_domain: "test.ex".into(),
        qualify_recipient: "test.ex".into(),
        main: written.main,
        lists: written.lists,
        spool_directory: spool.to_owned(),
        config_file: PathBuf::from("test.conf"),
        oxim_uid: nix::unistd::getuid().as_raw(),
        oxim_gid: nix::unistd::getgid().as_raw(),
        local_addresses: Vec::new(),
        dns: Arc::new(NoDns),
        log: Arc::clone(&log),
        counters: Arc::default(),
        status: None,
        users: Arc::new(NoUsers),
    });
    let ids = IdGenerator::new(oxim::mail::IdForm::Short, std::process::id());
    Server {
        station: Station {
            globals,
            layout: Layout::new(spool, false),
            log,
            ids: Arc::new(ids),
            announce: Arc::new(Silent),
        },
        acls: Arc::new(acls),
        verifier: Arc::new(ByLocalPart),
        tls: None,
        login: "oxim".into(),
        stop: Arc::default(),
    }
}

/// Reads one reply, or what there is at the end of the connection.
fn read_reply(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&reply).replace('\r', "") + "(closed)\n",
            Ok(_) => reply.push(byte[0]),
        }
        if byte[0] == b'\n' {
            let start = reply[..reply.len() - 1].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            if reply.get(start + 3) != Some(&b'-') {
                return String::from_utf8_lossy(&reply).replace('\r', "");
            }
        }
    }
}

/// Plays the client's lines of one conversation; gives the conversation as it really went.
fn converse(server: &Server, script: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    let local = accepted.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let how = Connected {
                peer,
                local,
                count: 1,
                tls_on_connect: false,
                queue_only: false,
                suppress_fixups: false,
            };
            serve(server, accepted, how);
        });
        let mut went = read_reply(&mut stream);
        for line in script.lines() {
            let Some(sent) = line.strip_prefix('>') else { continue };
            writeln!(went, "{line}").unwrap();
            let (bytes, waits) = if let Some(raw) = sent.strip_prefix("= ") {
                (raw.replace("\\r", "\r").replace("\\n", "\n"), true)
            } else if let Some(quiet) = sent.strip_prefix('>') {
                (quiet.strip_prefix(' ').unwrap_or(quiet).to_owned() + "\r\n", false)
            } else {
                (sent.strip_prefix(' ').unwrap_or(sent).to_owned() + "\r\n", true)
            };
            // a server that closed already is seen when the reply is read
            let _ = stream.write_all(bytes.as_bytes());
            if waits {
                went += &read_reply(&mut stream);
            }
        }
        drop(stream);
        went
    })
}

/// Ports of the peer and of the listener.
fn mask_ports(text: &str) -> String {
    let mut parts = text.split("]:");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        masked += if digits > 0 { "]:<port>" } else { "]:" };
        masked += &part[digits..];
    }
    masked
}

/// Message ids, ports and times are masked; everything else is compared.
fn mask(line: &str) -> String {
    line.split_inclusive([' ', '\n', '='])
        .map(|word| {
            let id = word.trim_end();
            let bare = id.trim_end_matches(';');
            if MessageId::parse(bare.as_bytes()).is_some() {
                word.replace(bare, "<id>")
            } else {
                word.to_owned()
            }
        })
        .collect()
}

/// The date of a Received: line, alone in its folded line.
fn mask_dates(text: &str) -> String {
    let is_date = |line: &str| line.starts_with('\t') && line.ends_with("+0000");
    text.lines()
        .map(|line| if is_date(line) { "\t<date>\n".to_owned() } else { format!("{line}\n") })
        .collect()
}

/// Tells the first line that differs, which is what one wants to see.
fn assert_same(got: &str, wanted: &str, what: &str) {
    let mut got = got.trim_end().lines();
    for (number, line) in wanted.trim_end().lines().enumerate() {
        let found = got.next().unwrap_or("(nothing)");
        assert_eq!(found, line, "{what}, line {}", number + 1);
    }
    assert_eq!(got.next(), None, "{what}: more than recorded");
}

/// Gives all input to `-bs` at once; gives all its output.
fn serve_local(server: &Server, input: &str) -> String {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.write_all((input.to_owned() + "\n").as_bytes()).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let file = std::fs::File::from(std::os::fd::OwnedFd::from(theirs));
    let caller = Caller { login: "root".into(), uid: 0, gid: 0, full_name: "root".into(), trusted: true };
    let call = LocalCall {
        caller,
        ident: "root".into(),
        origin: None,
        queue_only: true,
        no_qualify: false,
        suppress_fixups: false,
    };
    let pipes = Pipes::new(file.try_clone().unwrap(), file);
    assert!(!serve_stdio(server, Box::new(pipes), call), "it did not end with QUIT");
    let mut output = String::new();
    ours.read_to_string(&mut output).unwrap();
    output.replace('\r', "")
}

fn play_local(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let (config, rest) = text.split_once("\n==== input\n").unwrap();
    let (input, rest) = rest.split_once("\n==== output\n").unwrap();
    let (output, logs) = rest.split_once("\n==== main\n").unwrap();
    let spool = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(spool.path().join("input")).unwrap();
    let server = server(config, spool.path());
    let went = mask(&serve_local(&server, input));
    assert_same(&went, output, "the output");
    check_logs(&server, logs, &path.display().to_string());
}

fn play(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let spool = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(spool.path().join("input")).unwrap();
    let (config, rest) = text.split_once("\n==== dialogue\n").unwrap();
    let (dialogue, logs) = rest.split_once("\n==== main\n").unwrap();
    let server = server(config, spool.path());
    let went: Vec<String> = dialogue.split("\n----\n").map(|script| converse(&server, script)).collect();
    let went = mask(&went.join("----\n"));
    let name = path.display().to_string();
    assert_same(&went, dialogue, &format!("{name}: the conversation"));
    check_logs(&server, logs, &name);
}

/// Compares what main and reject log hold with what was recorded.
fn check_logs(server: &Server, recorded: &str, name: &str) {
    let (main, reject) = recorded.split_once("\n==== reject\n").unwrap();
    let logged = |wanted: Which| -> String {
        let lines = server.station.log.lines();
        // The recordings were made without a daemon, which alone counts connections.
        let counted = |line: &str| line.contains("(TCP/IP connection count = ");
        let of_log = lines.iter().filter(|(which, line)| *which == wanted && !counted(&line.to_string()));
        of_log.map(|(_, line)| mask_dates(&mask_ports(&mask(&format!("{line}\n"))))).collect()
    };
    assert_same(&logged(Which::Main), main, &format!("{name}: the main log"));
    assert_same(&logged(Which::Reject), reject, &format!("{name}: the reject log"));
}

#[test]
fn a_local_caller_speaks_smtp_over_pipes() {
    play_local(Path::new("tests/dialogue/local.txt"));
}

macro_rules! dialogues {
    ($($name:ident $file:literal;)*) => {
        $(#[test] fn $name() { play(Path::new(concat!("tests/dialogue/", $file, ".txt"))); })*
    };
}

dialogues! {
    commands_that_are_refused_get_exims_words "commands";
    helo_is_checked_and_its_acl_asked "helo";
    mail_is_checked_and_its_acl_asked "mail";
    recipients_are_checked_and_their_acl_asked "rcpt";
    messages_are_taken_or_refused_after_data "data";
    every_end_of_a_session_is_logged_as_selected "end";
}
