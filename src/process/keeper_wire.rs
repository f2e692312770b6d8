//! What the staple keeper and those that it serves say to each other over their link: one packet for each message, what
//! is long beside it in a sealed memfd. Neither side believes the other: every length has a limit, what comes as text
//! is made fit for a log, and what is found is checked by whoever uses it.

use super::ipc;
use crate::as_user::{Wire, WireError};
use crate::ocsp::keeper::MAX_CERTIFICATE;
use crate::ocsp::registry::{Key, Report, Wanted, WantedList};
use crate::ocsp::store::Kind;
use crate::sys::sealed;
use crate::{wire_enum, wire_struct};
use bstr::{BStr, BString, ByteSlice};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, UNIX_EPOCH};

/// Longest text in a report: the URL of a responder, or a reason.
const MAX_TEXT: usize = 1024;

wire_struct! {
    /// A certificate that is to be looked after. The memfd has the certificate and its issuer's, one after the other.
    pub struct Want {
        /// Its key; checked by who hears it.
        pub key: Key,
        /// The responder that the configuration names.
        pub responder: Option<BString>,
        /// Length of the first certificate.
        pub length: u32,
    }
}

wire_struct! {
    /// A revocation list that is to be looked after. The memfd has the certificate of who signs it.
    pub struct WantList {
        /// Its key; checked by who hears it.
        pub key: Key,
        /// Where it is published.
        pub url: BString,
    }
}

wire_enum! {
    /// To the keeper.
    pub enum ToKeeper {
        /// Look after this certificate.
        Want(Want) = 1,
        /// Look after this revocation list.
        WantList(WantList) = 2,
        /// Look after it no more.
        Forget(Key) = 3,
    }
}

wire_struct! {
    /// A [`Report`] as it travels.
    pub struct WireReport {
        /// About what.
        pub key: Key,
        /// Who is asked.
        pub source: BString,
        /// When next, in seconds since 1970.
        pub next_attempt: Option<u64>,
        /// How often that brought something.
        pub successes: u64,
        /// How often not.
        pub failures: u64,
        /// Why not, the last time.
        pub last_error: BString,
    }
}

wire_enum! {
    /// From the keeper.
    pub enum FromKeeper {
        /// This was found for that key; the memfd has its bytes.
        Answer((Key, Kind)) = 1,
        /// How it goes.
        Report(WireReport) = 2,
        /// The store fails, for this reason, or (none) works again.
        Store(Option<BString>) = 3,
    }
}

impl Wire for Key {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        let mut key = [0; 32];
        for byte in &mut key {
            *byte = u8::take(input)?;
        }
        Ok(Self(key))
    }
}

impl Wire for Kind {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Kind::Proof => 1,
            Kind::List => 2,
        });
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        match u8::take(input)? {
            1 => Ok(Kind::Proof),
            2 => Ok(Kind::List),
            other => Err(WireError::Unknown(other.into())),
        }
    }
}

/// Sends a message, and bytes that are too long for it. A full socket is the error `WouldBlock`.
pub fn try_say<M: Wire>(socket: impl AsFd, message: &M, bytes: Option<&[u8]>) -> io::Result<()> {
    let memfd = bytes.map(|bytes| sealed::make(c"oxim-keeper", bytes)).transpose()?;
    let descriptors: Vec<BorrowedFd> = memfd.iter().map(AsFd::as_fd).collect();
    ipc::try_say_with(socket, message, &descriptors)
}

/// Receives a message and the memfd that came with it; none if the other end is gone.
pub fn hear<M: Wire>(socket: impl AsFd) -> io::Result<Option<(M, Option<OwnedFd>)>> {
    let Some((message, mut descriptors)) = ipc::hear(socket)? else { return Ok(None) };
    let memfd = descriptors.pop();
    if descriptors.is_empty() {
        Ok(Some((message, memfd)))
    } else {
        Err(nonsense("more than one descriptor"))
    }
}

/// Tells the keeper of a certificate.
pub fn want(socket: impl AsFd, key: Key, wanted: &Wanted) -> io::Result<()> {
    let length = u32::try_from(wanted.certificate.len()).map_err(io::Error::other)?;
    let responder = wanted.responder.as_deref().map(BString::from);
    let bytes = [wanted.certificate.as_slice(), &wanted.issuer].concat();
    try_say(socket, &ToKeeper::Want(Want { key, responder, length }), Some(&bytes))
}

/// Tells the keeper of a revocation list.
pub fn want_list(socket: impl AsFd, key: Key, list: &WantedList) -> io::Result<()> {
    let message = ToKeeper::WantList(WantList { key, url: list.url.as_str().into() });
    try_say(socket, &message, Some(&list.issuer))
}

impl Want {
    /// With what came beside it.
    pub fn read(&self, memfd: Option<OwnedFd>) -> io::Result<Wanted> {
        let bytes = read(memfd, 2 * MAX_CERTIFICATE)?;
        let (certificate, issuer) =
            bytes.split_at_checked(self.length as usize).ok_or_else(|| nonsense("too short"))?;
        let responder = self.responder.as_ref().map(|url| url.to_str().map(str::to_owned));
        let responder = responder.transpose().map_err(|_| nonsense("no URL"))?;
        Ok(Wanted { certificate: certificate.to_vec(), issuer: issuer.to_vec(), responder })
    }
}

impl WantList {
    /// With what came beside it.
    pub fn read(&self, memfd: Option<OwnedFd>) -> io::Result<WantedList> {
        let issuer = read(memfd, MAX_CERTIFICATE)?;
        let url = self.url.to_str().map_err(|_| nonsense("no URL"))?.to_owned();
        Ok(WantedList { url, issuer })
    }
}

/// The bytes that came beside a message.
pub fn read(memfd: Option<OwnedFd>, most: usize) -> io::Result<Vec<u8>> {
    sealed::read(memfd.ok_or_else(|| nonsense("no descriptor"))?, most)
}

impl WireReport {
    /// To send it.
    pub fn new(key: Key, report: &Report) -> Self {
        let seconds =
            |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            key,
            source: text(report.source.as_bytes().as_bstr()).into(),
            next_attempt: report.next_attempt.map(seconds),
            successes: report.successes,
            failures: report.failures,
            last_error: text(report.last_error.as_bytes().as_bstr()).into(),
        }
    }
    /// As it is used.
    pub fn report(&self) -> Report {
        Report {
            source: text(self.source.as_bstr()),
            next_attempt: self.next_attempt.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at))),
            successes: self.successes,
            failures: self.failures,
            last_error: text(self.last_error.as_bstr()),
        }
    }
}

/// Text that may stand in a log: one line, of a limited length.
pub fn text(text: &BStr) -> String {
    let visible = |letter: char| if letter.is_control() { '?' } else { letter };
    text.to_str_lossy().chars().take(MAX_TEXT / 4).map(visible).collect()
}

fn nonsense(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd_passing::packet_pair;

    const KEY: Key = Key([7; 32]);

    #[test]
    fn what_is_wanted_arrives_whole() {
        let (here, there) = packet_pair().unwrap();
        let wanted =
            Wanted { certificate: vec![1; 5000], issuer: vec![2; 3000], responder: Some("http://a/".into()) };
        want(&here, KEY, &wanted).unwrap();
        let (message, memfd) = hear(&there).unwrap().unwrap();
        let ToKeeper::Want(message) = message else { panic!("{message:?}") };
        assert_eq!((message.key, message.read(memfd).unwrap()), (KEY, wanted));
        let list = WantedList { url: "http://a/list".into(), issuer: vec![3; 100] };
        want_list(&here, KEY, &list).unwrap();
        let (message, memfd) = hear(&there).unwrap().unwrap();
        let ToKeeper::WantList(message) = message else { panic!("{message:?}") };
        assert_eq!(message.read(memfd).unwrap(), list);
    }

    #[test]
    fn lengths_and_descriptors_that_do_not_fit_are_refused() {
        let memfd = |length: usize| Some(sealed::make(c"test", &vec![0; length]).unwrap());
        let want = |length| Want { key: KEY, responder: None, length };
        assert!(want(5).read(memfd(4)).is_err());
        assert!(want(5).read(None).is_err());
        assert!(want(5).read(memfd(2 * MAX_CERTIFICATE + 1)).is_err());
        assert!(want(u32::MAX).read(memfd(2 * MAX_CERTIFICATE)).is_err());
        let (here, there) = packet_pair().unwrap();
        let two = [here.as_fd(), here.as_fd()];
        ipc::say(&here, &ToKeeper::Forget(KEY), &two).unwrap();
        assert!(hear::<ToKeeper>(&there).is_err());
    }

    #[test]
    fn a_report_cannot_break_the_line_of_a_log() {
        let report = Report {
            source: "http://a/\nfaked line".into(),
            last_error: "é".repeat(5000),
            next_attempt: Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            successes: 3,
            ..Report::default()
        };
        let wire = WireReport::new(KEY, &report);
        assert!(FromKeeper::Report(wire.clone()).to_wire().len() < ipc::MAX_PACKET);
        let heard = wire.report();
        assert_eq!(heard.source, "http://a/?faked line");
        assert_eq!((heard.next_attempt, heard.successes), (report.next_attempt, 3));
        let lie = WireReport { source: "a\r\nb".into(), next_attempt: Some(u64::MAX), ..wire };
        assert_eq!((lie.report().source, lie.report().next_attempt), ("a??b".to_owned(), None));
    }
}
