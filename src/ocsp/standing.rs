//! How it stands with each certificate that is shown and each revocation list in use, for the administrator: the table of
//! `--certificates` and the metrics are made from it.
//!
//! What is told of a proof is judged as a handshake judges it: of the file's proof and the fetched one, that which may be
//! shown longer, and none once a word of revocation is there.

use super::crl::Unsigned;
use super::registry::{Entry, ListEntry, Report, Side, Word};
use super::{Crl, Proof, Unfit, UnfitCrl};
use crate::tls::gnutls;
use crate::tls::gnutls::x509::{Certificate, name_text};
use bstr::{BStr, BString, ByteSlice};
use std::time::SystemTime;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its subject, as logs show it.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// Its end.
    pub not_after: SystemTime,
    /// It promises a staple (RFC 7633).
    pub demands_staple: bool,
}

/// Where proofs of a certificate come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nowhere.
    #[default]
    Nothing,
    /// `tls_ocsp_file` (`tls_crl` for lists).
    File,
    /// The staple keeper.
    Keeper,
    /// Both.
    Both,
}

/// What there is to show, or why there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A proof (or list) that is used now.
    Good,
    /// None, and nothing went wrong.
    Nothing,
    /// There was one, up to then.
    Expired(SystemTime),
    /// The certificate is revoked, since then.
    Revoked(SystemTime),
    /// There is one that cannot be used, for this reason.
    Unusable(String),
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStanding {
    /// Which.
    pub certificate: CertificateFacts,
    /// Where proofs come from.
    pub source: Source,
    /// The file of the proof; empty: none.
    pub file: BString,
    /// What there is.
    pub state: State,
    /// When the proof that is shown, or was shown last, was made ...
    pub this_update: Option<SystemTime>,
    /// ... and its end.
    pub next_update: Option<SystemTime>,
    /// How the fetching goes; none: nobody fetches.
    pub report: Option<Report>,
}

/// One revocation list that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListStanding {
    /// Whose it is.
    pub issuer: String,
    /// Where it is: a file of `tls_crl`, or the address that it is fetched from.
    pub place: String,
    /// Who holds certificates against it.
    pub side: Side,
    /// The file or the keeper.
    pub source: Source,
    /// What there is. (Whether the issuer has signed a list of a file is seen when a certificate of his is judged.)
    pub state: State,
    /// When it was made ...
    pub this_update: Option<SystemTime>,
    /// ... and when the next is there.
    pub next_update: Option<SystemTime>,
    /// How the fetching goes; none: nobody fetches.
    pub report: Option<Report>,
}

/// A file of the configuration that could not be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnusableFile {
    /// Which; empty: see the error.
    pub file: String,
    /// Who needs it.
    pub side: Side,
    /// The option that names it.
    pub option: String,
    /// What is wrong.
    pub error: String,
    /// What was loaded from it before goes on.
    pub former_in_use: bool,
}

/// Most such files that are told: a client may make up names of servers without end.
pub const MAX_UNUSABLE: usize = 200;

/// All that an administrator is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Certificates that are shown.
    pub certificates: Vec<CertificateStanding>,
    /// Revocation lists that certificates are held against.
    pub lists: Vec<ListStanding>,
    /// Files that could not be loaded.
    pub unusable: Vec<UnusableFile>,
    /// So many more.
    pub unusable_left_out: usize,
    /// Why something is missing here.
    pub incomplete: Option<String>,
}

impl Standings {
    /// With what another knows.
    pub fn join(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
        self.lists.extend(other.lists);
        self.unusable_left_out += other.unusable_left_out;
        self.add_unusable(other.unusable.into_iter());
        self.incomplete = self.incomplete.take().or(other.incomplete);
    }

    /// Those that are told first are told; of the rest the number.
    pub fn add_unusable(&mut self, files: impl Iterator<Item = UnusableFile>) {
        for file in files {
            match self.unusable.len() < MAX_UNUSABLE {
                true if self.unusable.contains(&file) => {}
                true => self.unusable.push(file),
                false => self.unusable_left_out += 1,
            }
        }
    }

    /// In the order of their names, each once. (Of a list that two processes use for the same, each tells a little later
    /// than the keeper: one of the two stays.)
    pub fn ordered(mut self) -> Self {
        self.certificates.sort_by(|one, other| {
            let name = |standing: &CertificateStanding| standing.certificate.subject.clone();
            name(one).cmp(&name(other)).then_with(|| one.key().cmp(&other.key()))
        });
        self.certificates.dedup_by(|one, other| one.key() == other.key());
        self.lists.sort_by(|one, other| one.key().cmp(&other.key()));
        self.lists.dedup_by(|one, other| one.key() == other.key());
        self.unusable.sort();
        self
    }
}

/// A proof in a file: its name, and what came of reading it.
pub type Filed<'a> = (&'a BStr, Result<&'a Proof, &'a Unfit>);

impl CertificateFacts {
    /// Of this certificate.
    pub fn of(certificate: &Certificate) -> Result<Self, gnutls::Error> {
        let serial = certificate.serial()?;
        Ok(Self {
            subject: certificate.dn().unwrap_or_default().to_str_lossy().into_owned(),
            issuer: certificate.issuer_dn().unwrap_or_default().to_str_lossy().into_owned(),
            serial: serial.iter().map(|byte| format!("{byte:02X}")).collect(),
            not_after: certificate.not_after(),
            demands_staple: certificate.demands_staple(),
        })
    }
}

impl Source {
    fn of(file: bool, keeper: bool) -> Self {
        match (file, keeper) {
            (false, false) => Self::Nothing,
            (true, false) => Self::File,
            (false, true) => Self::Keeper,
            (true, true) => Self::Both,
        }
    }

    /// Its name, in the table, in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::File => "file",
            Self::Keeper => "keeper",
            Self::Both => "both",
        }
    }
}

impl State {
    /// Its name, in the table, in JSON and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Nothing => "none",
            Self::Expired(_) => "expired",
            Self::Revoked(_) => "revoked",
            Self::Unusable(_) => "unusable",
        }
    }
}

impl CertificateStanding {
    /// Of a certificate with these sources.
    pub fn of(
        certificate: CertificateFacts,
        filed: Option<Filed<'_>>,
        kept: Option<(Word, Report)>,
        now: SystemTime,
    ) -> Self {
        let (word, report) = match kept {
            Some((word, report)) => (word, Some(report)),
            None => (Word::Nothing, None),
        };
        // A certificate that names no responder is in the registry, and nobody is asked about it.
        let fetched = report.as_ref().is_some_and(|report| !report.source.is_empty());
        let source = Source::of(filed.is_some(), fetched || !matches!(word, Word::Nothing));
        let (state, proof) = judge(filed.as_ref().map(|(_, proof)| *proof), &word, now);
        let file = filed.map(|(path, _)| path.to_owned()).unwrap_or_default();
        let (this_update, next_update) = (proof.map(|proof| proof.life().since), proof.map(Proof::until));
        Self { certificate, source, file, state, this_update, next_update, report }
    }

    /// Of one that is looked after and that nobody has shown yet.
    pub fn of_entry(entry: &Entry, now: SystemTime) -> Result<Self, gnutls::Error> {
        let certificate = Certificate::from_der(&entry.wanted().certificate)?;
        let facts = CertificateFacts::of(&certificate)?;
        Ok(Self::of(facts, None, Some((entry.word().0, entry.report())), now))
    }

    /// What tells this line of the table from all others.
    pub fn key(&self) -> (&str, &str, &BStr) {
        (&self.certificate.issuer, &self.certificate.serial, self.file.as_bstr())
    }

    /// What last went wrong; empty: nothing.
    pub fn last_error(&self) -> &str {
        match (&self.state, &self.report) {
            (State::Unusable(why), _) => why,
            (_, Some(report)) => &report.last_error,
            (_, None) => "",
        }
    }
}

impl ListStanding {
    /// Of a list in a file.
    pub fn of_file(list: &Unsigned, path: &BStr, side: Side, now: SystemTime) -> Self {
        Self {
            issuer: name(list.issuer()),
            place: path.to_string(),
            side,
            source: Source::File,
            state: state_of(list.usable(now)),
            this_update: Some(list.since()),
            next_update: list.next_update(),
            report: None,
        }
    }

    /// Of one that is fetched.
    pub fn of_entry(entry: &ListEntry, now: SystemTime) -> Self {
        let (wanted, crl) = (entry.wanted(), entry.crl());
        let issuer = Certificate::from_der(&wanted.issuer).and_then(|issuer| issuer.dn()).unwrap_or_default();
        Self {
            issuer: issuer.to_str_lossy().into_owned(),
            place: wanted.url.clone(),
            side: entry.side(),
            source: Source::Keeper,
            state: crl.as_ref().map_or(State::Nothing, |crl| state_of(crl.usable(now))),
            this_update: crl.as_ref().map(Crl::since),
            next_update: crl.as_ref().map(Crl::until),
            report: Some(entry.report()),
        }
    }

    /// What tells this line of the table from all others. A file may have several lists of one issuer.
    fn key(&self) -> (&str, &str, Side, [Option<SystemTime>; 2]) {
        let is_file = self.source == Source::File;
        let times = if is_file { [self.next_update, self.this_update] } else { [None, None] };
        (&self.issuer, &self.place, self.side, times)
    }

    /// What last went wrong; empty: nothing.
    pub fn last_error(&self) -> &str {
        match (&self.state, &self.report) {
            (State::Unusable(why), _) => why,
            (_, Some(report)) => &report.last_error,
            (_, None) => "",
        }
    }
}

fn state_of(usable: Result<(), UnfitCrl>) -> State {
    match usable {
        Ok(()) => State::Good,
        Err(UnfitCrl::Expired(end)) => State::Expired(end),
        Err(unfit) => State::Unusable(unfit.to_string()),
    }
}

/// A name in DER as text.
fn name(der: &[u8]) -> String {
    name_text(der).unwrap_or_default().to_str_lossy().into_owned()
}

/// What is shown of these, and the proof that it is about.
fn judge<'p>(
    filed: Option<Result<&'p Proof, &'p Unfit>>,
    word: &'p Word,
    now: SystemTime,
) -> (State, Option<&'p Proof>) {
    if let Word::Revoked(since) = word {
        return (State::Revoked(*since), None);
    }
    let in_file = filed.and_then(Result::ok);
    let fetched = match word {
        Word::Good(proof) => Some(proof),
        Word::Nothing | Word::Revoked(_) => None,
    };
    let last = in_file.into_iter().chain(fetched).max_by_key(|proof| proof.until());
    match (last, filed) {
        (Some(proof), _) if proof.usable(now).is_ok() => (State::Good, Some(proof)),
        (_, Some(Err(Unfit::Revoked(since)))) => (State::Revoked(*since), None),
        (_, Some(Err(Unfit::Expired(end)))) => (State::Expired(*end), None),
        (_, Some(Err(unfit))) => (State::Unusable(unfit.to_string()), last),
        (Some(proof), _) => (State::Expired(proof.until()), Some(proof)),
        (None, _) => (State::Nothing, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + 500_000 * HOUR
    }

    fn proof(hours: u32) -> Proof {
        Proof::for_test(now() - 10 * HOUR, now() - 5 * HOUR + hours * HOUR)
    }

    fn standing(filed: Option<Result<&Proof, &Unfit>>, kept: Option<(Word, Report)>) -> CertificateStanding {
        let (subject, issuer, serial) = ("CN=mx".into(), "CN=ca".into(), "01".into());
        let facts =
            CertificateFacts { subject, issuer, serial, not_after: now() + HOUR, demands_staple: false };
        CertificateStanding::of(facts, filed.map(|proof| (b"/proof".as_bstr(), proof)), kept, now())
    }

    fn asked() -> Report {
        Report { source: "http://responder/".into(), last_error: "tryLater".into(), ..Report::default() }
    }

    #[test]
    fn the_proof_that_may_be_shown_longer_is_told_of_with_all_its_sources() {
        let (short, long) = (proof(6), proof(8));
        for (filed, fetched) in [(&short, &long), (&long, &short)] {
            let both = standing(Some(Ok(filed)), Some((Word::Good(fetched.clone()), asked())));
            assert_eq!((&both.state, both.source), (&State::Good, Source::Both));
            assert_eq!(both.next_update, Some(long.until()));
            assert_eq!(both.this_update, Some(now() - 10 * HOUR));
            assert_eq!(both.last_error(), "tryLater");
        }
        let filed = standing(Some(Ok(&short)), None);
        assert_eq!(
            (filed.source, filed.file.as_slice(), filed.last_error()),
            (Source::File, &b"/proof"[..], "")
        );
    }

    #[test]
    fn a_revocation_outweighs_a_proof_unless_it_is_the_older_word_of_a_file() {
        let since = now() - HOUR;
        let good = proof(8);
        let revoked = standing(Some(Ok(&good)), Some((Word::Revoked(since), asked())));
        assert_eq!((&revoked.state, revoked.next_update), (&State::Revoked(since), None));
        let unfit = Unfit::Revoked(since);
        assert_eq!(standing(Some(Err(&unfit)), None).state, State::Revoked(since));
        // As a handshake does it: the keeper's word is the newer one.
        let kept = Some((Word::Good(good), asked()));
        assert_eq!(standing(Some(Err(&unfit)), kept).state, State::Good);
    }

    #[test]
    fn what_cannot_be_shown_any_more_is_expired_and_what_never_could_says_why() {
        let old = proof(1);
        for standing in
            [standing(Some(Ok(&old)), None), standing(None, Some((Word::Good(old.clone()), asked())))]
        {
            assert_eq!(standing.state, State::Expired(old.until()));
            assert_eq!(standing.next_update, Some(old.until()));
        }
        let unfit = Unfit::Expired(now() - HOUR);
        assert_eq!(standing(Some(Err(&unfit)), None).state, State::Expired(now() - HOUR));
        let missing = standing(Some(Err(&Unfit::Missing)), None);
        assert_eq!((missing.state.name(), missing.last_error()), ("unusable", "no such file"));
        let silent = standing(None, Some((Word::Nothing, Report::default())));
        assert_eq!((&silent.state, silent.source), (&State::Nothing, Source::Nothing));
    }
}
