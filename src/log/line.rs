//! One main-log line from an event (spec chapter "Log files"; forms and order of fields recorded from Exim).

use super::selector::{Selector, Selectors};
use crate::mail::envelope::{OcspState, TlsInfo};
use crate::mail::host_text::{HostFields, full_host, host_fields};
use crate::mail::{Address, MessageId, Origin};
use crate::text::quote::{printable, quoted_field};
use bstr::{BStr, BString, ByteSlice};
use std::net::IpAddr;
use std::time::Duration;

/// Something that the main log tells.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// `<=`
    Arrival(Arrival<'a>),
    /// `=>`, `->`, `>>`, `*>`, `**`, `==`
    Delivery(Delivery<'a>),
    /// `Completed`
    Completed {
        /// The message.
        id: &'a MessageId,
        /// Time since it came in (`QT=`).
        queue_time: Duration,
    },
    /// Any other line about a message.
    About {
        /// The message.
        id: &'a MessageId,
        /// The words.
        text: &'a BStr,
    },
}

/// A message came in.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// Its id.
    pub id: &'a MessageId,
    /// Taken, but the peer was told that it was refused (`(=`).
    pub fake: bool,
    /// Reverse path.
    pub sender: &'a Address,
    /// Reverse path before rewriting (`from <...>`).
    pub raw_sender: &'a Address,
    /// `R=`: the message that this bounce is about.
    pub about: Option<&'a MessageId>,
    /// The peer.
    pub origin: &'a Origin,
    /// `L`, `L.`, `L-`; empty: none.
    pub pipelining: &'a BStr,
    /// BDAT was used (`K`).
    pub chunking: bool,
    /// Bytes (`S=`).
    pub size: u64,
    /// `M8S=`: 0, 7, 8.
    pub body_8bitmime: u8,
    /// `RT=`
    pub receive_time: Duration,
    /// Message-ID without brackets.
    pub message_id: Option<&'a BStr>,
    /// The Message-ID was made here (`id*=`).
    pub message_id_created: bool,
    /// Subject, decoded.
    pub subject: Option<&'a BStr>,
    /// Recipients as they were received.
    pub recipients: &'a [Address],
    /// `print_topbitchars`
    pub top_bit_prints: bool,
}

/// The two-character flag of a delivery line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `=>`
    Delivered,
    /// `->`: one more address in the same delivery
    Another,
    /// `*>`: `-N`
    Suppressed,
    /// `**`
    Failed,
    /// `==`
    Deferred,
}

/// What became of one address.
#[derive(Clone, Debug)]
pub struct Delivery<'a> {
    /// The message.
    pub id: &'a MessageId,
    /// What became of it.
    pub flag: Flag,
    /// The final address as shown: local part only for local deliveries, or a file, a pipe, `:blackhole:`.
    pub shown: BString,
    /// Addresses between the final and the original one, shown in parentheses (`all_parents`).
    pub parents: Vec<BString>,
    /// A file or pipe: the address that named it, the first of [`Delivery::parents`], is always shown.
    pub by_parent: bool,
    /// The original address, where it is not what is shown.
    pub original: Option<BString>,
    /// Nothing was delivered anywhere (`:blackhole:`): from whom is not said.
    pub is_discarded: bool,
    /// `F=`, `P=`
    pub sender: &'a Address,
    /// `P=`; none if there is no delivery to speak of.
    pub return_path: Option<&'a BStr>,
    /// `R=`
    pub router: &'a BStr,
    /// `T=`
    pub transport: &'a BStr,
    /// `S=`, if it was delivered.
    pub size: Option<u64>,
    /// The host.
    pub host: Option<DeliveryHost<'a>>,
    /// TLS of the session.
    pub tls: Option<&'a TlsInfo>,
    /// `L`
    pub pipelined: bool,
    /// `K`
    pub chunking: bool,
    /// `C=`; lines separated by `\n`.
    pub confirmation: &'a BStr,
    /// `QT=`
    pub queue_time: Option<Duration>,
    /// `DT=`
    pub delivery_time: Option<Duration>,
    /// `==`: the number in `defer (n)`.
    pub errno: i32,
    /// Of a deferral at a host: the system's words for the error, which stand before the host.
    pub error: &'a BStr,
    /// `**` and `==`: the reason, all that follows the last colon of the line.
    pub reason: &'a BStr,
}

/// Host of a delivery.
#[derive(Clone, Debug)]
pub struct DeliveryHost<'a> {
    /// Its name.
    pub name: &'a BStr,
    /// Its address; none if it was not found.
    pub address: Option<IpAddr>,
    /// Its name was looked up securely (`DS`).
    pub secure: bool,
    /// Its port.
    pub port: u16,
    /// The connection served another message before (`*`).
    pub continued: bool,
    /// Our end.
    pub interface: Option<(IpAddr, u16)>,
}

impl Event<'_> {
    /// The line, without time stamp.
    pub fn line(&self, selectors: Selectors) -> BString {
        let mut line = Line { text: BString::default(), selectors };
        match self {
            Self::Arrival(arrival) => line.arrival(arrival),
            Self::Delivery(delivery) => line.delivery(delivery),
            Self::Completed { id, queue_time } => {
                line.words(&[id.as_bstr(), " Completed".into()]);
                if selectors.has(Selector::QueueTimeOverall) {
                    line.time("QT", *queue_time);
                }
            }
            Self::About { id, text } => line.words(&[id.as_bstr(), " ".into(), text]),
        }
        line.text
    }
}

impl Arrival<'_> {
    /// The first line of the message's own log: `Received from ...`, without time stamp.
    pub fn message_log_line(&self, selectors: Selectors) -> BString {
        let mut line = Line { text: "Received from ".into(), selectors };
        line.arrival_facts(self);
        line.text
    }
}

/// The fields `X=`, `CV=`, `DN=`, `SNI=` and `OCSP=`, each with a space before it. `with_sni` on arrival lines.
pub fn tls_fields(tls: &TlsInfo, selectors: Selectors, with_sni: bool) -> BString {
    let mut line = Line { text: BString::default(), selectors };
    line.tls(tls, with_sni);
    line.text
}

/// A distinguished name in quotes. It has its own backslashes before quotes and commas (RFC 4514), which stay as they
/// are; only what does not print is shown otherwise.
fn distinguished_name(dn: &[u8]) -> BString {
    let parts: Vec<BString> = dn.split_str("\\").map(|part| printable(part, true)).collect();
    bstr::concat([&b"\""[..], &bstr::join("\\", parts), b"\""]).into()
}

/// `H=... I=... U=...` of the peer, as selected; empty for a local process without login name.
pub fn peer_fields(origin: &Origin, selectors: Selectors) -> BString {
    let fields = HostFields {
        port: selectors.has(Selector::IncomingPort),
        interface: selectors.has(Selector::IncomingInterface),
    };
    host_fields(origin, fields)
}

/// `$sender_fullhost` with the port if it is selected.
pub fn full_host_as_selected(origin: &Origin, selectors: Selectors) -> BString {
    full_host(origin, selectors.has(Selector::IncomingPort))
}

/// A time as fields have it: `3s`, `2m5s`, `1d2h`, with milliseconds `0.204s` where they are selected.
pub fn show_time(time: Duration, milliseconds: bool) -> String {
    if milliseconds && time < Duration::from_secs(60) {
        return format!("{}.{:03}s", time.as_secs(), time.subsec_millis());
    }
    let mut rest = time.as_secs();
    let mut text = String::new();
    for (unit, seconds) in [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            text.push_str(&format!("{}{unit}", rest / seconds));
            rest %= seconds;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

struct Line {
    text: BString,
    selectors: Selectors,
}

impl Line {
    fn words(&mut self, parts: &[&BStr]) {
        for part in parts {
            self.text.extend_from_slice(part);
        }
    }
    /// ` NAME=value`
    fn field(&mut self, name: &str, value: &[u8]) {
        self.words(&[" ".into(), name.into(), "=".into(), value.as_bstr()]);
    }
    fn time(&mut self, name: &str, time: Duration) {
        let shown = show_time(time, self.selectors.has(Selector::Millisec));
        self.field(name, shown.as_bytes());
    }
    fn mark(&mut self, mark: &str, shown: bool) {
        if shown {
            self.words(&[" ".into(), mark.into()]);
        }
    }

    fn arrival(&mut self, arrival: &Arrival) {
        let flag = if arrival.fake { " (= " } else { " <= " };
        self.words(&[arrival.id.as_bstr(), flag.into()]);
        self.arrival_facts(arrival);
        self.arrival_texts(arrival);
    }

    /// From the sender to `T=`: what the message's own log shows too.
    fn arrival_facts(&mut self, arrival: &Arrival) {
        let selectors = self.selectors;
        self.bracketed_if_null(arrival.sender);
        if let Some(about) = arrival.about {
            self.field("R", about.as_bstr());
        }
        let peer = peer_fields(arrival.origin, selectors);
        if !peer.is_empty() {
            self.words(&[" ".into(), peer.as_bstr()]);
        }
        if !arrival.origin.protocol.is_empty() {
            self.field("P", &arrival.origin.protocol);
        }
        if selectors.has(Selector::Pipelining) && !arrival.pipelining.is_empty() {
            self.words(&[" ".into(), arrival.pipelining]);
        }
        if let Some(tls) = &arrival.origin.tls {
            self.tls(tls, true);
        }
        self.authentication(arrival.origin);
        self.mark("K", arrival.chunking);
        self.field("S", arrival.size.to_string().as_bytes());
        if selectors.has(Selector::EightBitMime) {
            self.field("M8S", arrival.body_8bitmime.to_string().as_bytes());
        }
        if selectors.has(Selector::ReceiveTime) {
            self.time("RT", arrival.receive_time);
        }
        if let Some(message_id) = arrival.message_id {
            let shown = printable(message_id, true);
            if arrival.message_id_created && selectors.has(Selector::MsgIdCreated) {
                self.field("id*", &shown);
            } else if !arrival.message_id_created && selectors.has(Selector::MsgId) {
                self.field("id", &shown);
            }
        }
        if let Some(subject) = arrival.subject.filter(|_| selectors.has(Selector::Subject)) {
            self.field("T", &quoted_field(subject, arrival.top_bit_prints));
        }
    }

    /// `from`, `for`.
    fn arrival_texts(&mut self, arrival: &Arrival) {
        let selectors = self.selectors;
        if selectors.has(Selector::ReceivedSender) {
            self.words(&[" from <".into(), arrival.raw_sender.to_bytes().as_bstr(), ">".into()]);
        }
        if selectors.has(Selector::ReceivedRecipients) && !arrival.recipients.is_empty() {
            self.words(&[" for".into()]);
            for recipient in arrival.recipients {
                self.words(&[" ".into(), recipient.to_bytes().as_bstr()]);
            }
        }
    }

    fn bracketed_if_null(&mut self, address: &Address) {
        if address.is_null() {
            self.words(&["<>".into()]);
        } else {
            self.words(&[address.to_bytes().as_bstr()]);
        }
    }

    fn authentication(&mut self, origin: &Origin) {
        let Some(authenticator) = &origin.authenticator else { return };
        self.field("A", authenticator);
        if let Some(id) = &origin.authenticated_id {
            self.words(&[":".into(), printable(id, true).as_bstr()]);
        }
        let sender = origin.authenticated_sender.as_ref();
        if let Some(sender) = sender.filter(|_| self.selectors.has(Selector::SmtpMailauth)) {
            let colon = if origin.authenticated_id.is_some() { ":" } else { "::" };
            self.words(&[colon.into(), printable(sender, true).as_bstr()]);
        }
    }

    fn tls(&mut self, tls: &TlsInfo, with_sni: bool) {
        let selectors = self.selectors;
        if selectors.has(Selector::TlsCipher) && !tls.cipher.is_empty() {
            self.field("X", &tls.cipher);
            if tls.resumed && selectors.has(Selector::TlsResumption) {
                self.words(&["*".into()]);
            }
        }
        if selectors.has(Selector::TlsCertificateVerified) && !tls.cipher.is_empty() {
            let verified = if tls.dane { "dane" } else { "yes" };
            self.field("CV", if tls.certificate_verified { verified } else { "no" }.as_bytes());
        }
        if selectors.has(Selector::TlsPeerdn) && !tls.peer_dn.is_empty() {
            self.field("DN", &distinguished_name(tls.peer_dn.bytes()));
        }
        if let Some(sni) = tls.sni.as_ref().filter(|_| with_sni && selectors.has(Selector::TlsSni)) {
            self.field("SNI", &printable(sni.bytes(), true));
        }
        if selectors.has(Selector::TlsOcsp) {
            let state = match tls.ocsp {
                OcspState::Verified => "verified",
                OcspState::Failed | OcspState::NotVerified => "failed",
                OcspState::NoResponse | OcspState::NotRequested => "none",
            };
            self.field("OCSP", state.as_bytes());
        }
    }

    fn delivery(&mut self, delivery: &Delivery) {
        let selectors = self.selectors;
        let flag = match delivery.flag {
            Flag::Delivered => "=>",
            Flag::Another => "->",
            Flag::Suppressed => "*>",
            Flag::Failed => "**",
            Flag::Deferred => "==",
        };
        self.words(&[delivery.id.as_bstr(), " ".into(), flag.into(), " ".into(), delivery.shown.as_bstr()]);
        let all = selectors.has(Selector::AllParents);
        let count = if all { usize::MAX } else { usize::from(delivery.by_parent) };
        let parents = &delivery.parents[..count.min(delivery.parents.len())];
        if !parents.is_empty() {
            self.words(&[" (".into(), bstr::join(", ", parents).as_bstr(), ")".into()]);
        }
        if let Some(original) = &delivery.original {
            self.words(&[" <".into(), original.as_bstr(), ">".into()]);
        }
        let without_sender = delivery.flag == Flag::Deferred || delivery.is_discarded;
        if selectors.has(Selector::SenderOnDelivery) && !without_sender {
            self.field("F", &angle(&delivery.sender.to_bytes()));
        }
        let path =
            delivery.return_path.filter(|_| selectors.has(Selector::ReturnPathOnDelivery) && !without_sender);
        if let Some(path) = path {
            self.field("P", &angle(path));
        }
        for (name, value) in [("R", delivery.router), ("T", delivery.transport)] {
            if !value.is_empty() {
                self.field(name, value);
            }
        }
        match delivery.flag {
            Flag::Deferred => self.deferral(delivery),
            Flag::Failed => self.failure(delivery),
            _ => self.success(delivery),
        }
    }

    fn success(&mut self, delivery: &Delivery) {
        let selectors = self.selectors;
        if let Some(size) = delivery.size.filter(|_| selectors.has(Selector::DeliverySize)) {
            self.field("S", size.to_string().as_bytes());
        }
        self.delivery_host(delivery);
        if let Some(tls) = delivery.tls {
            self.tls(tls, false);
        }
        self.mark("L", delivery.pipelined && selectors.has(Selector::Pipelining));
        self.mark("K", delivery.chunking);
        if selectors.has(Selector::SmtpConfirmation) && !delivery.confirmation.is_empty() {
            let once = printable(delivery.confirmation, true);
            self.field("C", &quoted_field(&once, true));
        }
        if let Some(time) = delivery.queue_time.filter(|_| selectors.has(Selector::QueueTime)) {
            self.time("QT", time);
        }
        self.delivery_time(delivery);
    }

    fn failure(&mut self, delivery: &Delivery) {
        self.delivery_host(delivery);
        if let Some(tls) = delivery.tls {
            self.tls(tls, false);
        }
        self.words(&[": ".into(), delivery.reason]);
        self.delivery_time(delivery);
    }

    fn deferral(&mut self, delivery: &Delivery) {
        self.words(&[format!(" defer ({})", delivery.errno).as_str().into()]);
        if !delivery.error.is_empty() {
            self.words(&[": ".into(), delivery.error]);
        }
        self.delivery_host(delivery);
        self.delivery_time(delivery);
        // A reason that is empty (`:defer:` without a text) is shown as such.
        if !delivery.reason.is_empty() || delivery.error.is_empty() {
            self.words(&[": ".into(), delivery.reason]);
        }
    }

    fn delivery_time(&mut self, delivery: &Delivery) {
        if let Some(time) = delivery.delivery_time.filter(|_| self.selectors.has(Selector::DeliverTime)) {
            self.time("DT", time);
        }
    }

    /// `H=name [address]:port* I=[address]:port`
    fn delivery_host(&mut self, delivery: &Delivery) {
        let Some(host) = &delivery.host else { return };
        let selectors = self.selectors;
        self.field("H", host.name);
        if host.secure && selectors.has(Selector::Dnssec) {
            self.words(&[" DS".into()]);
        }
        if let Some(address) = host.address {
            self.words(&[format!(" [{address}]").as_str().into()]);
        }
        let with_port = selectors.has(Selector::OutgoingPort);
        if with_port && host.address.is_some() {
            self.words(&[format!(":{}", host.port).as_str().into()]);
        }
        if host.continued {
            self.words(&["*".into()]);
        }
        let interface =
            selectors.has(Selector::IncomingInterface) && selectors.has(Selector::OutgoingInterface);
        if let Some((address, port)) = host.interface.filter(|_| interface) {
            self.field("I", format!("[{address}]").as_bytes());
            if with_port {
                self.words(&[format!(":{port}").as_str().into()]);
            }
        }
    }
}

fn angle(text: &[u8]) -> BString {
    let mut bracketed = BString::from("<");
    bracketed.extend_from_slice(text);
    bracketed.push(b'>');
    bracketed
}

#[cfg(test)]
mod tests;
