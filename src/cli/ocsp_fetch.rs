//! `ocsp_fetch`: one proof for one certificate into a file, for cron and systemd timers (`tls_ocsp_file` staples it).
//!
//! It does nothing while the file is not due, and says why when it fails: the old file stays, and the exit code is 1.
//! A file that is no proof for the certificate (after a renewal the old certificate's) is as good as none, whatever its
//! time says. The options are those of the helper that Exim comes with.

use crate::ocsp::fetch;
use crate::ocsp::http::Url;
use crate::ocsp::obtain::responder_of;
use crate::ocsp::{Subject, Way, obtain, proof_file};
use crate::sys::identity::{self, Rights};
use crate::tls::gnutls::x509::Certificate;
use anyhow::{Context as _, anyhow, bail};
use bstr::{BString, ByteSlice};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The name under which the program is this one.
const NAME: &str = "ocsp_fetch";
/// What is left of a proof's life when it is fetched again, in per cent, unless `-m` says otherwise.
const MARGIN_PERCENT: u32 = 10;
/// Longest file with certificates that is read.
const MAX_FILE: u64 = 1024 * 1024;

const USAGE: &str =
    "usage: ocsp_fetch -i ISSUER -c CERTIFICATE -o OUT [-u URL] [-a CHAIN] [-m PERCENT] [-f] [-v]
  -i ISSUER       PEM file with the certificate of the authority that signed the certificate
  -c CERTIFICATE  PEM file; the first certificate in it is the one asked about
  -o OUT          where the proof goes (DER); its time of change is when it is due again
  -u URL          the responder (http://...); else the one that the certificate names
  -a CHAIN        PEM file with authorities: the issuer must be one of them or be signed by one
  -m PERCENT      of the proof's life that is left when it is due again (10)
  -f              fetch even if OUT is not due
  -v              say what is done
The proxy that the environment variable http_proxy names is used.";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    issuer: PathBuf,
    certificate: PathBuf,
    out: PathBuf,
    url: Option<BString>,
    chain: Option<PathBuf>,
    margin_percent: u32,
    force: bool,
    verbose: bool,
}

/// Whether the program was called by this name.
pub fn is_called(name: &[u8]) -> bool {
    name.rsplit(|byte| *byte == b'/').next() == Some(NAME.as_bytes())
}

/// Does it; gives the exit code: 0 fetched or not due, 1 failed (the old file stays), 2 called wrongly.
pub fn run(arguments: &[BString], environment: &[(OsString, OsString)]) -> anyhow::Result<i32> {
    // A copy of the program with rights of its own has no use for them here.
    if !identity::is_plain() {
        identity::become_user(&Rights::of_caller()?)?;
    }
    let wanted = match parse(arguments) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{NAME}: {why}\n{USAGE}");
            return Ok(2);
        }
    };
    if !crate::tls::OCSP {
        bail!("{NAME}: this program was built without certificate status (OCSP)");
    }
    let named = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let proxy = named("http_proxy").map(|value| value.to_string_lossy().into_owned());
    fetch_if_due(&wanted, proxy.as_deref()).map_err(|error| anyhow!("{NAME}: {error:#}"))?;
    Ok(0)
}

fn fetch_if_due(wanted: &Wanted, proxy: Option<&str>) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let out = wanted.out.display();
    let certificate = certificates(&wanted.certificate)?.remove(0);
    let issuer = issuer_of(&certificate, wanted)?;
    if !wanted.force && !is_due(&certificate, &issuer, wanted, now)? {
        wanted.say(&format!("{out} is not due yet"));
        return Ok(());
    }
    let responder = responder(&certificate, wanted)?;
    let proxy = fetch::proxy_of(proxy).context("http_proxy")?;
    wanted.say(&format!("asking {responder}"));
    let way = Way { responder: &responder, proxy: proxy.as_ref(), deadline: fetch::DEADLINE };
    let proof = obtain(&certificate, issuer, &way, now).with_context(|| responder.to_string())?;
    let due = proof_file::due_at(now, proof.until(), wanted.margin_percent);
    proof_file::replace(&wanted.out, &proof, due).with_context(|| format!("cannot write {out}"))?;
    wanted.say(&format!("{out}: good until {}, due again at {}", shown(proof.until()), shown(due)));
    Ok(())
}

/// Whether the file is to be fetched: its time has passed, or what lies there proves nothing of this certificate.
fn is_due(
    certificate: &Certificate,
    issuer: &Certificate,
    wanted: &Wanted,
    now: SystemTime,
) -> anyhow::Result<bool> {
    let out = wanted.out.display();
    if proof_file::is_due(&wanted.out, now).with_context(|| out.to_string())? {
        return Ok(true);
    }
    let issuer = Certificate::from_der(&issuer.der()?)?;
    let subject = Subject::new(certificate, issuer).ok_or(obtain::ObtainError::NotItsIssuer)?;
    let read = proof_file::read(&wanted.out, &subject, now);
    if let Err(unfit) = &read {
        wanted.say(&format!("{out} is of no use: {unfit}"));
    }
    Ok(read.is_err())
}

impl Wanted {
    /// With `-v`. That nobody can hear it stops nothing.
    fn say(&self, words: &str) {
        if self.verbose {
            let _ = writeln!(std::io::stdout(), "{words}");
        }
    }
}

fn responder(certificate: &Certificate, wanted: &Wanted) -> anyhow::Result<Url> {
    if let Some(text) = &wanted.url {
        return Url::parse(text).with_context(|| format!("-u {text}"));
    }
    let file = wanted.certificate.display();
    match responder_of(certificate).with_context(|| format!("{file}: the responder it names"))? {
        Some(url) => Ok(url),
        None => bail!("{file}: the certificate names no responder; -u names one"),
    }
}

/// The certificate among those of `-i` that signed ours, and that the authorities of `-a` stand for.
fn issuer_of(certificate: &Certificate, wanted: &Wanted) -> anyhow::Result<Certificate> {
    let found = certificates(&wanted.issuer)?.into_iter().find(|issuer| certificate.is_signed_by(issuer));
    let issuer = found.ok_or_else(|| {
        let (issuer, certificate) = (wanted.issuer.display(), wanted.certificate.display());
        anyhow!("{issuer}: no certificate in it signed the one in {certificate}")
    })?;
    if let Some(chain) = &wanted.chain {
        let der = issuer.der()?;
        let vouches = |authority: &Certificate| {
            authority.der().is_ok_and(|authority| authority == der) || issuer.is_signed_by(authority)
        };
        if !certificates(chain)?.iter().any(vouches) {
            bail!("{}: none of the authorities in it stands for the issuer", chain.display());
        }
    }
    Ok(issuer)
}

/// The certificates in a file; at least one.
fn certificates(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut pem));
    read.with_context(|| path.display().to_string())?;
    let all = Certificate::list_from_pem(&pem).with_context(|| path.display().to_string())?;
    if all.is_empty() {
        bail!("{}: no certificate in it", path.display());
    }
    Ok(all)
}

fn shown(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map(|stamp| stamp.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_default()
}

fn parse(arguments: &[BString]) -> Result<Wanted, String> {
    let (mut issuer, mut certificate, mut out, mut url, mut chain) = (None, None, None, None, None);
    let (mut margin_percent, mut force, mut verbose) = (MARGIN_PERCENT, false, false);
    for (letter, value) in letters(arguments)? {
        match letter {
            b'i' => issuer = Some(path(&value)),
            b'c' => certificate = Some(path(&value)),
            b'o' => out = Some(path(&value)),
            b'u' => url = Some(value),
            b'a' => chain = Some(path(&value)),
            b'm' => {
                let number =
                    value.to_str().ok().and_then(|text| text.parse().ok()).filter(|part| *part < 100);
                margin_percent = number.ok_or_else(|| format!("-m {value}: not a number from 0 to 99"))?;
            }
            b'f' => force = true,
            _ => verbose = true,
        }
    }
    Ok(Wanted {
        issuer: issuer.ok_or("-i is missing")?,
        certificate: certificate.ok_or("-c is missing")?,
        out: out.ok_or("-o is missing")?,
        url,
        chain,
        margin_percent,
        force,
        verbose,
    })
}

/// The options as getopt reads them: `-fv` is `-f -v`, and `-m5` is `-m 5`. One without a value has an empty one.
fn letters(arguments: &[BString]) -> Result<Vec<(u8, BString)>, String> {
    let (mut found, mut words) = (Vec::new(), arguments.iter());
    while let Some(word) = words.next() {
        let mut rest = word.strip_prefix(b"-").filter(|rest| !rest.is_empty()).unwrap_or(b"?");
        while let Some((letter, after)) = rest.split_first() {
            rest = match letter {
                b'f' | b'v' => {
                    found.push((*letter, BString::default()));
                    after
                }
                b'i' | b'c' | b'o' | b'u' | b'a' | b'm' => {
                    let value = if after.is_empty() { words.next().cloned() } else { Some(after.into()) };
                    let name = char::from(*letter);
                    found.push((*letter, value.ok_or_else(|| format!("-{name} needs a value"))?));
                    b""
                }
                _ => return Err(format!("{word}: unknown")),
            };
        }
    }
    Ok(found)
}

fn path(text: &BString) -> PathBuf {
    OsStr::from_bytes(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<BString> {
        line.split(' ').map(BString::from).collect()
    }

    #[test]
    fn options_are_read_and_what_is_wrong_is_named() {
        let wanted = parse(&words("-v -i i.pem -c c.pem -u http://h/ -a a.pem -o o.der -m 5")).unwrap();
        assert_eq!((wanted.margin_percent, wanted.force, wanted.verbose), (5, false, true));
        assert_eq!(wanted.out, Path::new("o.der"));
        let together = parse(&words("-vfm5 -ii.pem -cc.pem -uhttp://h/ -aa.pem -oo.der")).unwrap();
        assert_eq!(together, Wanted { force: true, ..wanted });
        for (line, why) in [
            ("-i i -c c", "-o is missing"),
            ("-i i -o o", "-c is missing"),
            ("-c c -o o", "-i is missing"),
            ("-i i -c c -o", "-o needs a value"),
            ("-i i -c c -o o -m 100", "-m 100: not a number from 0 to 99"),
            ("-i i -c c -o o -x", "-x: unknown"),
            ("-i i -c c -o o -vx", "-vx: unknown"),
            ("-i i -c c -o o word", "word: unknown"),
            ("-i i -c c -o o -", "-: unknown"),
            ("-i i -c c -vo", "-o needs a value"),
        ] {
            assert_eq!(parse(&words(line)).unwrap_err(), why);
        }
    }

    #[test]
    fn the_name_decides() {
        assert!(is_called(b"ocsp_fetch") && is_called(b"/usr/sbin/ocsp_fetch"));
        assert!(!is_called(b"oxim") && !is_called(b"/ocsp_fetch/oxim"));
    }
}
