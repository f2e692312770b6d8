//! The counters by name, and the memory they lie in.

use crate::mail::envelope::{OcspState, TlsInfo};
use crate::sys::shared_words::{self, SharedWords};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Counters that are shown together, told apart by labels.
#[derive(Debug)]
pub struct Family {
    /// The name, without `_total`.
    pub name: &'static str,
    /// The unit, which is the name's end; empty: none.
    pub unit: &'static str,
    /// What is counted.
    pub help: &'static str,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// Each counter with the values of its labels.
    pub counters: &'static [(Counter, &'static [&'static str])],
}

macro_rules! counters {
    ($($name:literal $unit:literal $help:literal [$($label:literal),*] {
        $($counter:ident [$($value:literal),*]),+ $(,)?
    })+) => {
        /// Everything that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $($(
                #[doc = concat!($name, $(" ", $value),*)]
                $counter,
            )+)+
        }

        /// All families, in the order in which they are shown.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: $name,
            unit: $unit,
            help: $help,
            labels: &[$($label),*],
            counters: &[$((Counter::$counter, &[$($value),*])),+],
        }),+];

        /// How many there are.
        const COUNT: usize = [$($(Counter::$counter),+),+].len();
    };
}

counters! {
    "oxim_messages_received" ""
    "Messages taken in. local: from programs of this host, and our own (bounces, warnings); local_smtp: SMTP on \
     standard input; smtp and smtp_tls: over TCP, in clear and with TLS." ["protocol"] {
        ReceivedLocal ["local"],
        ReceivedLocalSmtp ["local_smtp"],
        ReceivedSmtp ["smtp"],
        ReceivedSmtpTls ["smtp_tls"],
    }
    "oxim_recipients_received" "" "Recipients of the messages taken in." [] {
        RecipientsReceived [],
    }
    "oxim_received_bytes" "bytes" "Size of the messages taken in." [] {
        BytesReceived [],
    }
    "oxim_deliveries" "" "Addresses delivered, thrown away as the configuration says (discarded), put off (deferred) or \
     given up (failed); an address is put off at each attempt anew." ["result"] {
        DeliveredLocally ["local"],
        DeliveredRemotely ["remote"],
        Discarded ["discarded"],
        Deferred ["deferred"],
        Failed ["failed"],
    }
    "oxim_messages_attempted" "" "Attempts to deliver a message by their end: completed messages have left the queue, \
     deferred and frozen ones stay." ["result"] {
        MessagesCompleted ["completed"],
        MessagesDeferred ["deferred"],
        MessagesFrozen ["frozen"],
    }
    "oxim_bounces" "" "Messages sent about addresses that failed." [] {
        Bounces [],
    }
    "oxim_smtp_connections" "" "SMTP connections over TCP. in: served, or refused at the door; out: opened, or failed."
    ["side", "result"] {
        ConnectionsServed ["in", "served"],
        ConnectionsRefused ["in", "refused"],
        ConnectionsOpened ["out", "opened"],
        ConnectionsFailed ["out", "failed"],
    }
    "oxim_tls_handshakes" "" "TLS handshakes that succeeded, by version. in: as server; out: as client." ["side", "version"] {
        InTls10 ["in", "TLS1.0"],
        InTls11 ["in", "TLS1.1"],
        InTls12 ["in", "TLS1.2"],
        InTls13 ["in", "TLS1.3"],
        InTlsOther ["in", "other"],
        OutTls10 ["out", "TLS1.0"],
        OutTls11 ["out", "TLS1.1"],
        OutTls12 ["out", "TLS1.2"],
        OutTls13 ["out", "TLS1.3"],
        OutTlsOther ["out", "other"],
    }
    "oxim_tls_handshake_failures" "" "TLS handshakes that failed; out: certificates that were refused too." ["side"] {
        InTlsFailed ["in"],
        OutTlsFailed ["out"],
    }
    "oxim_tls_resumptions" "" "TLS handshakes that resumed an earlier session." ["side"] {
        InTlsResumed ["in"],
        OutTlsResumed ["out"],
    }
    "oxim_tls_statuses" "" "Certificate status in the handshakes that succeeded, as $tls_in_ocsp and $tls_out_ocsp \
     have it." ["side", "verdict"] {
        InNotRequested ["in", "not_requested"],
        InNoResponse ["in", "no_response"],
        InNotVerified ["in", "not_verified"],
        InStatusFailed ["in", "failed"],
        InVerified ["in", "verified"],
        OutNotRequested ["out", "not_requested"],
        OutNoResponse ["out", "no_response"],
        OutNotVerified ["out", "not_verified"],
        OutStatusFailed ["out", "failed"],
        OutVerified ["out", "verified"],
    }
    "oxim_status_fetches" "" "Attempts of the staple keeper to fetch a proof or a revocation list." ["kind", "result"] {
        ProofsFetched ["ocsp", "success"],
        ProofsNotFetched ["ocsp", "failure"],
        ListsFetched ["crl", "success"],
        ListsNotFetched ["crl", "failure"],
    }
}

/// Whose handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As server.
    In,
    /// As client.
    Out,
}

/// The numbers before the counters: when the daemon began, in milliseconds since 1970.
const START: usize = 0;
/// Counters stand behind them.
const FIRST: usize = 1;

/// The memory for all counters of a daemon, which begins now; for its roles.
pub fn new_page() -> io::Result<OwnedFd> {
    let file = File::from(shared_words::make(FIRST + COUNT)?);
    file.write_all_at(&now().to_ne_bytes(), (START * size_of::<u64>()) as u64)?;
    Ok(file.into())
}

/// The counters of this process: its own, or those of all processes of a daemon.
#[derive(Debug)]
pub struct Counters(Words);

#[derive(Debug)]
enum Words {
    Own(Box<[AtomicU64; FIRST + COUNT]>),
    Shared(SharedWords),
}

impl Default for Counters {
    /// Of a process that belongs to no daemon: nobody will ever look at them.
    fn default() -> Self {
        let words = Box::new([const { AtomicU64::new(0) }; FIRST + COUNT]);
        words[START].store(now(), Ordering::Relaxed);
        Self(Words::Own(words))
    }
}

impl Counters {
    /// Those of [`new_page`].
    pub fn shared(page: impl AsFd) -> io::Result<Self> {
        Ok(Self(Words::Shared(SharedWords::map(page, FIRST + COUNT)?)))
    }

    fn words(&self) -> &[AtomicU64] {
        match &self.0 {
            Words::Own(words) => &words[..],
            Words::Shared(words) => words.words(),
        }
    }

    /// One more.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// So many more.
    pub fn add(&self, counter: Counter, more: u64) {
        self.words()[FIRST + counter as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.words()[FIRST + counter as usize].load(Ordering::Relaxed)
    }

    /// When counting began.
    pub fn start(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.words()[START].load(Ordering::Relaxed))
    }

    /// A handshake that succeeded.
    pub fn handshake(&self, side: Side, info: &TlsInfo) {
        use Counter::*;
        let version = match (side, info.version.as_slice()) {
            (Side::In, b"TLS1.0") => InTls10,
            (Side::In, b"TLS1.1") => InTls11,
            (Side::In, b"TLS1.2") => InTls12,
            (Side::In, b"TLS1.3") => InTls13,
            (Side::In, _) => InTlsOther,
            (Side::Out, b"TLS1.0") => OutTls10,
            (Side::Out, b"TLS1.1") => OutTls11,
            (Side::Out, b"TLS1.2") => OutTls12,
            (Side::Out, b"TLS1.3") => OutTls13,
            (Side::Out, _) => OutTlsOther,
        };
        let status = match (side, info.ocsp) {
            (Side::In, OcspState::NotRequested) => InNotRequested,
            (Side::In, OcspState::NoResponse) => InNoResponse,
            (Side::In, OcspState::NotVerified) => InNotVerified,
            (Side::In, OcspState::Failed) => InStatusFailed,
            (Side::In, OcspState::Verified) => InVerified,
            (Side::Out, OcspState::NotRequested) => OutNotRequested,
            (Side::Out, OcspState::NoResponse) => OutNoResponse,
            (Side::Out, OcspState::NotVerified) => OutNotVerified,
            (Side::Out, OcspState::Failed) => OutStatusFailed,
            (Side::Out, OcspState::Verified) => OutVerified,
        };
        self.count(version);
        self.count(status);
        if info.resumed {
            self.count(if side == Side::In { InTlsResumed } else { OutTlsResumed });
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn families_have_names_of_their_own_and_one_value_for_each_label() {
        let names: HashSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(
                family.unit.is_empty() || family.name.ends_with(&format!("_{}", family.unit)),
                "{family:?}"
            );
            let values: HashSet<_> = family.counters.iter().map(|(_, values)| values).collect();
            assert_eq!(values.len(), family.counters.len(), "{family:?}");
            assert!(values.iter().all(|values| values.len() == family.labels.len()), "{family:?}");
        }
    }

    #[test]
    fn all_who_have_the_page_count_together_and_see_when_it_began() {
        let before = SystemTime::now() - Duration::from_millis(1);
        let page = new_page().unwrap();
        let (one, other) = (Counters::shared(&page).unwrap(), Counters::shared(&page).unwrap());
        one.count(Counter::ListsNotFetched);
        other.add(Counter::ListsNotFetched, 2);
        assert_eq!((one.get(Counter::ListsNotFetched), one.get(Counter::ReceivedLocal)), (3, 0));
        assert!(other.start() >= before && other.start() <= SystemTime::now());
    }

    #[test]
    fn a_handshake_counts_its_version_its_status_and_whether_it_was_resumed() {
        let counters = Counters::default();
        let info = TlsInfo { version: "TLS1.3".into(), ocsp: OcspState::Verified, ..TlsInfo::default() };
        counters.handshake(Side::In, &info);
        counters.handshake(Side::Out, &TlsInfo { version: "SSL9".into(), resumed: true, ..info });
        for (counter, count) in [
            (Counter::InTls13, 1),
            (Counter::InVerified, 1),
            (Counter::InTlsResumed, 0),
            (Counter::OutTlsOther, 1),
            (Counter::OutVerified, 1),
            (Counter::OutTlsResumed, 1),
        ] {
            assert_eq!(counters.get(counter), count, "{counter:?}");
        }
    }
}
