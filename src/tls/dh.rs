//! `tls_dhparam`: which Diffie-Hellman parameters a server offers.
//!
//! A name stands for a group of an RFC, a path for a file (made if it is not there), `historic` for a file in the spool
//! directory, `none` for no such key exchange. Specification: the option's own section, and "GnuTLS parameter
//! computation". Since GnuTLS 3.6 only the strength of what is chosen counts, see [`super::gnutls::dh`].

use super::cache::Files;
use super::gnutls::Error;
use super::gnutls::credentials::CredentialsBuilder;
use super::gnutls::dh::{DhParameters, normal_bits};
use super::notice::{Notice, Notify};
use super::primes::GROUPS;
use super::terms::Making;
use super::unit::io_text;
use bstr::{BStr, BString, ByteSlice};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the option is unset. Exim's own primes (`default` and `exim.dev.*`), which are in no document, have as many bits.
const DEFAULT: &str = "ffdhe2048";
const EXIMS_OWN: [&str; 4] = ["default", "exim.dev.20160529.1", "exim.dev.20160529.2", "exim.dev.20160529.3"];
/// Groups that Exim warns of; for the first two in the panic log too (RFC 8247).
const DEPRECATED: [(&str, bool); 5] =
    [("ike1", true), ("ike22", true), ("ike2", false), ("ike23", false), ("ike24", false)];
/// Least number of bits that is ever made.
const LEAST_BITS: u32 = 1024;
/// A prime that is made may be larger than asked for; so fewer are asked for.
const MARGIN: u32 = 10;

/// What the option says, and what bounds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DhSettings {
    /// `tls_dhparam`
    pub written: Option<BString>,
    /// `tls_dh_max_bits`; 0: no bound.
    pub max_bits: u32,
    /// The spool directory, for `historic`.
    pub spool_directory: Option<PathBuf>,
    /// Which file that is not there is made.
    pub making: Making,
}

/// Why there are no parameters, in Exim's words.
#[derive(Debug, thiserror::Error)]
pub enum DhError {
    /// No path and no known name.
    #[error("(No standard prime named): {0}")]
    Unknown(BString),
    /// A file that cannot be read.
    #[error("(failed to open \"{0}\" for reading): {reason}", reason = io_text(.1))]
    Unreadable(BString, io::Error),
    /// A file that has something else in it.
    #[error("(gnutls_dh_params_import_pkcs3): {0}")]
    Malformed(Error),
    /// Cannot be made.
    #[error("(gnutls_dh_params_generate2): {0}")]
    Generate(Error),
    /// Were made, and cannot be kept.
    #[error("(failed to rename \"{0}\" as \"{1}\"): {reason}", reason = io_text(.2))]
    Unwritable(BString, BString, io::Error),
}

/// Puts into the credentials what the settings say.
pub(super) fn load(
    settings: &DhSettings,
    files: &mut Files,
    builder: &mut CredentialsBuilder,
    notify: Notify<'_>,
) -> Result<(), DhError> {
    let parameters = match settings.written.as_ref().map(|written| written.as_bstr()) {
        None => standard(DEFAULT),
        Some(written) if written == "none" => return Ok(()),
        Some(written) if written == "historic" => {
            let name = format!("gnutls-params-{}", bits(settings));
            let directory = settings.spool_directory.clone().unwrap_or_default();
            let may_make = settings.making != Making::Nothing;
            match from_file(&directory.join(name), settings, may_make, files)? {
                Some(parameters) => parameters,
                None => return Ok(()),
            }
        }
        Some(written) if written.starts_with(b"/") => {
            let may_make = settings.making == Making::Anywhere;
            match from_file(Path::new(OsStr::from_bytes(written)), settings, may_make, files)? {
                Some(parameters) => parameters,
                None => return Ok(()),
            }
        }
        Some(written) => named(written, notify)?,
    };
    builder.set_dh(parameters);
    Ok(())
}

/// How many bits are made: what the library thinks is right, within the bound.
fn bits(settings: &DhSettings) -> u32 {
    let normal = normal_bits();
    if settings.max_bits == 0 { normal } else { normal.min(settings.max_bits).max(LEAST_BITS) }
}

fn named(written: &BStr, notify: Notify<'_>) -> Result<DhParameters, DhError> {
    let name = written.to_str_lossy();
    if let Some((name, is_grave)) = DEPRECATED.iter().find(|(deprecated, _)| *deprecated == name) {
        let text = format!("WARNING: deprecated Diffie-Hellman parameter '{name}' used");
        notify(if *is_grave { Notice::panic(text) } else { Notice::main(text) });
    }
    if EXIMS_OWN.contains(&&*name) {
        return Ok(standard(DEFAULT));
    }
    match GROUPS.iter().find(|group| group.name == name) {
        Some(group) => Ok(standard(group.name)),
        None => Err(DhError::Unknown(written.to_owned())),
    }
}

/// A group of the table.
fn standard(name: &str) -> DhParameters {
    let group = GROUPS.iter().find(|group| group.name == name).expect("called with names of the table");
    DhParameters::from_numbers(&from_hexadecimal(group.prime), &from_hexadecimal(group.generator))
        .expect("the numbers of the table are read by a test")
}

fn from_hexadecimal(digits: &str) -> Vec<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |sum, digit| sum << 4 | value(*digit)))
        .collect()
}

/// A file; if it is not there it is made, where that may be.
fn from_file(
    path: &Path,
    settings: &DhSettings,
    may_make: bool,
    files: &mut Files,
) -> Result<Option<DhParameters>, DhError> {
    let pem = match files.read(path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => make(path, bits(settings))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && settings.making == Making::Nothing => {
            return Ok(None);
        }
        Err(error) => return Err(DhError::Unreadable(path.as_os_str().as_bytes().into(), error)),
    };
    DhParameters::from_pem(&pem).map(Some).map_err(DhError::Malformed)
}

/// Makes parameters and keeps them in a file that only this user reads; replaced as a whole, so that several who do it
/// at once do no harm.
fn make(path: &Path, bits: u32) -> Result<Vec<u8>, DhError> {
    let wanted = bits.saturating_sub(MARGIN).max(LEAST_BITS);
    let parameters = DhParameters::generate(wanted).map_err(DhError::Generate)?;
    let pem = parameters.to_pem().map_err(DhError::Generate)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&pem)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // best effort: what could not be renamed is of no use
        let _ = std::fs::remove_file(&temporary);
        let text = |path: &Path| BString::from(path.as_os_str().as_bytes());
        DhError::Unwritable(text(&temporary), text(path), error)
    })?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn every_group_of_the_table_is_a_group_to_gnutls_and_has_the_bits_of_its_document() {
        let bits = |name: &str| {
            let group = GROUPS.iter().find(|group| group.name == name).unwrap();
            from_hexadecimal(group.prime).len() * 8
        };
        for group in GROUPS {
            standard(group.name).to_pem().unwrap();
        }
        for (name, expected) in [
            ("ike1", 768),
            ("ike2", 1024),
            ("ike5", 1536),
            ("ike14", 2048),
            ("ike18", 8192),
            ("ike22", 1024),
            ("ike24", 2048),
            ("ffdhe2048", 2048),
            ("ffdhe8192", 8192),
        ] {
            assert_eq!(bits(name), expected, "{name}");
        }
        assert_eq!(GROUPS.len(), 16);
    }

    #[test]
    fn old_groups_are_warned_of_and_the_weakest_in_the_panic_log() {
        let told = RefCell::new(Vec::new());
        let notify = |notice: Notice| told.borrow_mut().push(notice);
        for name in ["ike1", "ike23", "ike14", "default"] {
            named(name.into(), &notify).unwrap();
        }
        let told = told.borrow();
        assert_eq!(
            *told,
            [
                Notice::panic("WARNING: deprecated Diffie-Hellman parameter 'ike1' used"),
                Notice::main("WARNING: deprecated Diffie-Hellman parameter 'ike23' used"),
            ]
        );
        let unknown = named("ike3".into(), &|_| {}).err().unwrap();
        assert_eq!(unknown.to_string(), "(No standard prime named): ike3");
    }

    #[test]
    fn a_file_that_is_not_there_is_made_once_but_not_by_a_check() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dh");
        let settings = DhSettings { max_bits: 1024, ..DhSettings::default() };
        let load = |path, may_make| from_file(path, &settings, may_make, &mut Files::default());
        assert!(load(&path, false).unwrap().is_none());
        let made = load(&path, true).unwrap().unwrap();
        let read = load(&path, false).unwrap().unwrap();
        assert_eq!(made.to_pem().unwrap(), read.to_pem().unwrap());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        let nowhere = directory.path().join("nowhere/dh");
        let error = load(&nowhere, true).err().unwrap();
        assert!(error.to_string().ends_with("\"): No such file or directory"), "{error}");
    }
}
