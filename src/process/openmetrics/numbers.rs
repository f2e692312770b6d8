//! What is shown: counters, the queue, and how it stands with certificates.

use crate::config::build_settings::{EXIM_VERSION, OXIM_VERSION};
use crate::metrics::{Counters, FAMILIES, Kind, Samples, Text};
use crate::ocsp::registry::Side;
use crate::ocsp::standing::{CertificateStanding, ListStanding, Standings, State};
use crate::spool::message::read_header;
use crate::spool::{Layout, scan};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The spool is looked through at most this often, ...
const QUEUE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and for a queue so long that it takes time, so seldom that it costs a twentieth of one processor at most.
const QUEUE_SHARE: u32 = 20;

/// It is asked how it stands with certificates at most so often, however many collectors there are.
const STANDINGS_INTERVAL: Duration = Duration::from_millis(500);

/// Where the numbers come from.
pub struct Numbers {
    counters: Arc<Counters>,
    layout: Layout,
    standings: Box<Standing>,
    /// As they were shown last.
    shown: Mutex<Option<(Instant, Standings)>>,
    queue: Mutex<Option<Looked>>,
}

/// Tells how it stands with certificates and lists.
pub type Standing = dyn Fn(SystemTime) -> Standings + Send + Sync;

/// A look at the spool.
struct Looked {
    queue: Queue,
    next: Instant,
}

/// What lies in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Queue {
    messages: usize,
    frozen: usize,
    /// When the oldest came, in seconds since 1970.
    oldest: Option<u64>,
}

impl Numbers {
    /// Of a process that has this spool, and what it knows of certificates.
    pub fn new(counters: Arc<Counters>, layout: Layout, standings: Box<Standing>) -> Self {
        Self { counters, layout, standings, shown: Mutex::new(None), queue: Mutex::new(None) }
    }

    /// How it stands with the certificates that are shown, and with revocation lists.
    pub fn standings(&self, now: SystemTime) -> Standings {
        (self.standings)(now)
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let now = SystemTime::now();
        let queue = self.queue();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = shown.take().filter(|(at, _)| at.elapsed() < STANDINGS_INTERVAL);
        let (_, standings) = shown.insert(recent.unwrap_or_else(|| {
            let standings = self.standings(now);
            (Instant::now(), standings)
        }));
        compose(&self.counters, queue, standings, now)
    }

    /// The last look at the spool, or a new one; none where it cannot be read. Others wait for the one who looks.
    fn queue(&self) -> Option<Queue> {
        let mut last = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        if let Some(looked) = last.as_ref().filter(|looked| started < looked.next) {
            return Some(looked.queue);
        }
        let queue = look(&self.layout).ok()?;
        let next = Instant::now() + QUEUE_INTERVAL.max(started.elapsed() * QUEUE_SHARE);
        *last = Some(Looked { queue, next });
        Some(queue)
    }
}

fn look(layout: &Layout) -> io::Result<Queue> {
    let entries = scan::scan(layout)?;
    let is_frozen = |entry: &&scan::Entry| {
        read_header(&entry.directory, &entry.id).is_ok_and(|(envelope, _)| envelope.frozen.is_some())
    };
    Ok(Queue {
        messages: entries.len(),
        frozen: entries.iter().filter(is_frozen).count(),
        oldest: entries.first().map(|entry| entry.id.seconds()),
    })
}

fn compose(counters: &Counters, queue: Option<Queue>, standings: &Standings, now: SystemTime) -> String {
    let mut text = Text::default();
    let ocsp = if crate::tls::OCSP { "yes" } else { "no" };
    let build = [
        ("version", OXIM_VERSION),
        ("exim_version", EXIM_VERSION),
        ("gnutls", crate::tls::gnutls_runtime_version()),
        ("ocsp", ocsp),
    ];
    text.family(Kind::Info, "oxim_build", "", "The program that runs.").sample(&build, 1);
    let help = "When the daemon began, and all counters with it, in seconds since 1970.";
    text.family(Kind::Gauge, "oxim_start_time_seconds", "seconds", help)
        .sample(&[], seconds(counters.start()));
    for family in FAMILIES {
        let mut samples = text.family(Kind::Counter, family.name, family.unit, family.help);
        for (counter, values) in family.counters {
            let labels: Vec<_> = family.labels.iter().copied().zip(values.iter().copied()).collect();
            samples.sample(&labels, counters.get(*counter));
        }
    }
    if let Some(queue) = queue {
        put_queue(&mut text, queue, now);
    }
    let certificates = &standings.certificates;
    put_certificates(&mut text, certificates, now);
    put_proofs(&mut text, certificates, now);
    put_fetching(&mut text, certificates);
    put_lists(&mut text, &standings.lists, now);
    put_unusable(&mut text, standings);
    text.end()
}

fn put_queue(text: &mut Text, queue: Queue, now: SystemTime) {
    let help = "Messages in the queue, frozen ones too.";
    text.family(Kind::Gauge, "oxim_queue_messages", "", help).sample(&[], queue.messages);
    let help = "Messages in the queue that are frozen.";
    text.family(Kind::Gauge, "oxim_queue_frozen_messages", "", help).sample(&[], queue.frozen);
    if let Some(oldest) = queue.oldest {
        let help = "Time since the oldest message of the queue came.";
        let age = (seconds(now) - oldest as f64).max(0.0);
        text.family(Kind::Gauge, "oxim_queue_oldest_age_seconds", "seconds", help).sample(&[], age);
    }
}

/// A family that has a sample for each certificate that has a value.
fn put<V: std::fmt::Display>(
    mut samples: Samples<'_>,
    certificates: &[CertificateStanding],
    value: impl Fn(&CertificateStanding) -> Option<V>,
) {
    for standing in certificates {
        if let Some(value) = value(standing) {
            let file = standing.file.to_string();
            samples.sample(&labels(standing, &file), value);
        }
    }
}

/// What tells certificates apart. The file is that of the proof.
fn labels<'s>(standing: &'s CertificateStanding, file: &'s str) -> [(&'static str, &'s str); 4] {
    let certificate = &standing.certificate;
    [
        ("subject", &certificate.subject),
        ("serial", &certificate.serial),
        ("issuer", &certificate.issuer),
        ("file", file),
    ]
}

fn put_certificates(text: &mut Text, certificates: &[CertificateStanding], now: SystemTime) {
    let name = "oxim_certificate_remaining_seconds";
    let help = "Time to the certificate's end; negative when that has passed.";
    put(text.family(Kind::Gauge, name, "seconds", help), certificates, |standing| {
        Some(seconds(standing.certificate.not_after) - seconds(now))
    });
    let help = "1 if the certificate promises a staple (must-staple), so that clients refuse it without one.";
    put(text.family(Kind::Gauge, "oxim_certificate_must_staple", "", help), certificates, |standing| {
        Some(u8::from(standing.certificate.demands_staple))
    });
}

fn put_proofs(text: &mut Text, certificates: &[CertificateStanding], now: SystemTime) {
    if !crate::tls::OCSP {
        return;
    }
    let help = "Where the proof of a certificate's status comes from (none, file, keeper, both), and how it stands with \
                it: good, none, expired, revoked, or unusable.";
    let mut samples = text.family(Kind::Info, "oxim_staple", "", help);
    for standing in certificates {
        let file = standing.file.to_string();
        let [a, b, c, d] = labels(standing, &file);
        let (source, status) = (("source", standing.source.name()), ("status", standing.state.name()));
        samples.sample(&[a, b, c, d, source, status], 1);
    }
    let help = "1 if there is a proof that is stapled now.";
    put(text.family(Kind::Gauge, "oxim_staple_usable", "", help), certificates, |standing| {
        Some(u8::from(standing.state == State::Good))
    });
    let help = "Time since the responder made the proof (thisUpdate).";
    put(text.family(Kind::Gauge, "oxim_staple_age_seconds", "seconds", help), certificates, |standing| {
        Some(seconds(now) - seconds(standing.this_update?))
    });
    let help = "Time to the proof's end (nextUpdate, or the end of the certificate that signed it); negative when that \
                has passed.";
    let name = "oxim_staple_remaining_seconds";
    put(text.family(Kind::Gauge, name, "seconds", help), certificates, |standing| {
        Some(seconds(standing.next_update?) - seconds(now))
    });
}

fn put_fetching(text: &mut Text, certificates: &[CertificateStanding]) {
    if !crate::tls::OCSP {
        return;
    }
    let help = "Attempts to fetch a proof of the certificate, as its keeper counts them.";
    let mut samples = text.family(Kind::Counter, "oxim_staple_fetches", "", help);
    for (standing, report) in certificates.iter().filter_map(|one| Some((one, one.report.as_ref()?))) {
        let file = standing.file.to_string();
        let [a, b, c, d] = labels(standing, &file);
        samples.sample(&[a, b, c, d, ("result", "success")], report.successes);
        samples.sample(&[a, b, c, d, ("result", "failure")], report.failures);
    }
    let name = "oxim_staple_next_attempt_timestamp_seconds";
    let help = "When the responder is asked next, in seconds since 1970.";
    put(text.family(Kind::Gauge, name, "seconds", help), certificates, |standing| {
        Some(seconds(standing.report.as_ref()?.next_attempt?))
    });
}

/// A file may have several lists of one issuer; of these it is the one that ends first.
fn put_lists(text: &mut Text, lists: &[ListStanding], now: SystemTime) {
    let mut first: Vec<&ListStanding> = lists.iter().collect();
    first.sort_by_key(|list| (&list.issuer, &list.place, list.side, list.next_update));
    first.dedup_by_key(|list| (&list.issuer, &list.place, list.side));
    let labels = |list: &'_ ListStanding| {
        let side = list.side.name().to_owned();
        [("issuer", list.issuer.clone()), ("place", list.place.clone()), ("side", side)]
    };
    let put = |mut samples: Samples<'_>, value: &dyn Fn(&ListStanding) -> Option<f64>| {
        for (list, value) in first.iter().filter_map(|list| Some((list, value(list)?))) {
            let labels = labels(list);
            samples.sample(&labels.each_ref().map(|(name, value)| (*name, value.as_str())), value);
        }
    };
    let help = "1 if the revocation list is in time, and says something.";
    put(text.family(Kind::Gauge, "oxim_crl_usable", "", help), &|list| {
        Some(f64::from(u8::from(list.state == State::Good)))
    });
    let help = "Time since the revocation list was made (thisUpdate).";
    put(text.family(Kind::Gauge, "oxim_crl_age_seconds", "seconds", help), &|list| {
        Some(seconds(now) - seconds(list.this_update?))
    });
    let help = "Time to the revocation list's nextUpdate; negative when that has passed.";
    put(text.family(Kind::Gauge, "oxim_crl_remaining_seconds", "seconds", help), &|list| {
        Some(seconds(list.next_update?) - seconds(now))
    });
    let help = "When a fetched revocation list is asked for next, in seconds since 1970.";
    let name = "oxim_crl_next_attempt_timestamp_seconds";
    put(text.family(Kind::Gauge, name, "seconds", help), &|list| {
        Some(seconds(list.report.as_ref()?.next_attempt?))
    });
    let help = "Attempts to fetch the revocation list that brought it, as its keeper counts them.";
    put(text.family(Kind::Counter, "oxim_crl_fetch_successes", "", help), &|list| {
        Some(list.report.as_ref()?.successes as f64)
    });
    let help = "Attempts to fetch the revocation list that failed.";
    put(text.family(Kind::Counter, "oxim_crl_fetch_failures", "", help), &|list| {
        Some(list.report.as_ref()?.failures as f64)
    });
}

/// Their number alone: names may be clients' inventions. Those beyond what is told are servers' of that kind.
fn put_unusable(text: &mut Text, standings: &Standings) {
    let help = "Files of TLS options that could not be loaded when they were needed last; --certificates names them.";
    let mut samples = text.family(Kind::Gauge, "oxim_tls_unusable_files", "", help);
    for (side, more) in [(Side::Server, standings.unusable_left_out), (Side::Client, 0)] {
        let count = standings.unusable.iter().filter(|file| file.side == side).count();
        samples.sample(&[("side", side.name())], count + more);
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as f64 / 1000.0,
        Err(before) => before.duration().as_millis() as f64 / -1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Counter;
    use crate::ocsp::registry::Report;
    use crate::ocsp::standing::{CertificateFacts, Source};

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + 500_000 * HOUR
    }

    fn standing() -> CertificateStanding {
        CertificateStanding {
            certificate: CertificateFacts {
                subject: "CN=\"mx\"".into(),
                issuer: "CN=ca".into(),
                serial: "0A".into(),
                not_after: now() + 2 * HOUR,
                demands_staple: true,
            },
            source: Source::Keeper,
            file: "".into(),
            state: State::Good,
            this_update: Some(now() - HOUR),
            next_update: Some(now() + HOUR),
            report: Some(Report {
                source: "http://r/".into(),
                next_attempt: Some(now() + HOUR / 2),
                successes: 3,
                failures: 1,
                last_error: String::new(),
            }),
        }
    }

    #[test]
    fn counters_queue_and_certificates_are_all_in_the_text() {
        let counters = Counters::default();
        counters.add(Counter::ReceivedSmtpTls, 7);
        let queue = Queue { messages: 5, frozen: 2, oldest: Some(500_000 * 3600 - 60) };
        let list = |hours| ListStanding {
            issuer: "CN=ca".into(),
            place: "/crl".into(),
            side: Side::Server,
            source: Source::File,
            state: State::Good,
            this_update: Some(now() - HOUR),
            next_update: Some(now() + hours * HOUR),
            report: None,
        };
        let of_client = ListStanding { side: Side::Client, ..list(3) };
        let lists = vec![list(9), list(2), of_client];
        let standings = Standings { certificates: vec![standing()], lists, ..Standings::default() };
        let text = compose(&counters, Some(queue), &standings, now());
        let has = |line: &str| assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        has("oxim_messages_received_total{protocol=\"smtp_tls\"} 7");
        has("oxim_queue_messages 5");
        has("oxim_queue_frozen_messages 2");
        has("oxim_queue_oldest_age_seconds 60");
        let names = "subject=\"CN=\\\"mx\\\"\",serial=\"0A\",issuer=\"CN=ca\",file=\"\"";
        has(&format!("oxim_certificate_remaining_seconds{{{names}}} 7200"));
        has(&format!("oxim_certificate_must_staple{{{names}}} 1"));
        has("oxim_crl_remaining_seconds{issuer=\"CN=ca\",place=\"/crl\",side=\"server\"} 7200");
        has("oxim_crl_remaining_seconds{issuer=\"CN=ca\",place=\"/crl\",side=\"client\"} 10800");
        assert_eq!(text.matches("oxim_crl_usable{").count(), 2, "of each side the one that ends first");
        assert!(text.ends_with("\n# EOF\n"));
        if crate::tls::OCSP {
            has(&format!("oxim_staple_info{{{names},source=\"keeper\",status=\"good\"}} 1"));
            has(&format!("oxim_staple_age_seconds{{{names}}} 3600"));
            has(&format!("oxim_staple_remaining_seconds{{{names}}} 3600"));
            has(&format!("oxim_staple_fetches_total{{{names},result=\"failure\"}} 1"));
            has(&format!("oxim_staple_next_attempt_timestamp_seconds{{{names}}} 1800001800"));
        }
        let without = compose(&counters, None, &Standings::default(), now());
        assert!(!without.contains("oxim_queue_messages"), "a spool that cannot be read is not an empty one");
    }

    #[test]
    fn the_spool_is_not_looked_through_for_each_who_asks() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), false);
        let numbers = Numbers::new(Arc::default(), layout.clone(), Box::new(|_| Standings::default()));
        assert_eq!(numbers.queue(), Some(Queue::default()));
        std::fs::create_dir_all(layout.input()).unwrap();
        std::fs::write(layout.input().join("1xVUuV-0003NN-2V-H"), "").unwrap();
        assert_eq!(numbers.queue().unwrap().messages, 0);
        numbers.queue.lock().unwrap().as_mut().unwrap().next = Instant::now();
        let seen = numbers.queue().unwrap();
        assert_eq!((seen.messages, seen.frozen, seen.oldest.is_some()), (1, 0, true));
    }
}
