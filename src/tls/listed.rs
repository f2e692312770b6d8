//! Certificates that are looked after though nobody has asked for them yet: the files of `tls_ocsp_fetch`, so that a
//! virtual host has its proof before its first client comes.
//!
//! The files are looked at again now and then; one that is replaced has its new certificate looked after, and the old one
//! is forgotten once no connection shows it.

use super::cache::Files;
use super::gnutls::credentials::CredentialsBuilder;
use super::gnutls::x509::Certificate;
use super::kept::Kept;
use super::notice::{Notice, Notify};
use super::unit;
use crate::ocsp::registry::{MAX_ENTRIES, Registry};
use crate::ocsp::standing::UnusableFile;
use crate::sys::system_words;
use bstr::{BString, ByteSlice};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// The files, and what they held when they were read.
pub struct Listed {
    patterns: Vec<PathBuf>,
    registry: Registry,
    responder: Option<BString>,
    read: HashMap<PathBuf, One>,
    /// What was told of a pattern that leads nowhere.
    missing: BTreeSet<PathBuf>,
}

struct One {
    files: Files,
    /// Held, so that it is looked after; or why it is not.
    kept: Result<Kept, String>,
}

impl Listed {
    /// Nothing is read yet. `responder` is `tls_ocsp_responder`.
    pub fn new(patterns: Vec<PathBuf>, registry: Registry, responder: Option<BString>) -> Self {
        Self { patterns, registry, responder, read: HashMap::new(), missing: BTreeSet::new() }
    }

    /// Reads what is new or has changed. Each trouble is told when it begins.
    pub fn look(&mut self, now: SystemTime, notify: Notify<'_>) {
        let mut found = BTreeSet::new();
        for pattern in self.patterns.clone() {
            let (files, closed) = matching(&pattern);
            if !files.is_empty() {
                self.missing.remove(&pattern);
            } else if self.missing.insert(pattern.clone()) {
                let why = closed.map(|why| format!(": {why}")).unwrap_or_default();
                let place = pattern.display();
                notify(Notice::main(format!("OCSP: there is no file {place} (tls_ocsp_fetch){why}")));
            }
            found.extend(files);
        }
        self.read.retain(|path, _| found.contains(path));
        for path in found {
            if self.read.get(&path).is_none_or(|one| one.files.are_changed()) {
                let one = self.read_one(&path, now, notify);
                self.read.insert(path, one);
            }
        }
    }

    fn read_one(&self, path: &Path, now: SystemTime, notify: Notify<'_>) -> One {
        let mut files = Files::default();
        let kept = self.chain(path, &mut files, now, notify);
        if let Err(why) = &kept {
            notify(Notice::main(format!("OCSP: no proof is fetched for {}: {why}", path.display())));
        }
        One { files, kept }
    }

    /// What could not be read when it was looked at last.
    pub fn unusable(&self) -> Vec<UnusableFile> {
        let one = |path: &Path, error: &str| UnusableFile {
            file: path.display().to_string(),
            option: "tls_ocsp_fetch".to_owned(),
            error: error.to_owned(),
            ..UnusableFile::default()
        };
        let bad = self.read.iter().filter_map(|(path, read)| Some(one(path, read.kept.as_ref().err()?)));
        self.missing.iter().map(|path| one(path, "there is no such file")).chain(bad).collect()
    }

    fn chain(
        &self,
        path: &Path,
        files: &mut Files,
        now: SystemTime,
        notify: Notify<'_>,
    ) -> Result<Kept, String> {
        let pem = files.read(path).map_err(|error| error.to_string())?;
        let chain = Certificate::list_from_pem(&pem).map_err(|error| error.to_string())?;
        let leaf = chain.first().ok_or("no certificate in it")?;
        let nobody = CredentialsBuilder::new().map_err(|error| error.to_string())?.share();
        if unit::proofs::issuer_of(&chain, 0, &nobody).is_none() && !leaf.is_signed_by(leaf) {
            return Err("the issuer's certificate is not in it (the chain file has to be listed)".into());
        }
        let issuer_of = |at| unit::proofs::issuer_of(&chain, at, &nobody);
        let responder = self.responder.as_ref().map(|url| url.as_bstr());
        Ok(Kept::new(&self.registry, &chain, issuer_of, responder, now, notify))
    }
}

/// The files that a pattern names, at most as many as can be looked after; and a place on the way that may not be looked
/// into (certbot's directories are root's alone), with the reason.
fn matching(pattern: &Path) -> (Vec<PathBuf>, Option<String>) {
    let (mut places, mut closed) = (vec![PathBuf::from("/")], None);
    let mut note = |place: &Path, error: io::Error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            closed.get_or_insert_with(|| format!("{}: {}", place.display(), system_words(&error)));
        }
    };
    for component in pattern.components() {
        let Component::Normal(name) = component else { continue };
        let next = places.into_iter().flat_map(|place| beneath(&place, name, &mut note));
        places = next.take(MAX_ENTRIES).collect();
    }
    let is_file = |place: &PathBuf| match std::fs::metadata(place) {
        Ok(about) => about.is_file(),
        Err(error) => {
            note(place, error);
            false
        }
    };
    let files = places.into_iter().filter(is_file).take(MAX_ENTRIES).collect();
    (files, closed)
}

fn beneath(place: &Path, name: &OsStr, note: &mut dyn FnMut(&Path, io::Error)) -> Vec<PathBuf> {
    if !name.as_bytes().contains(&b'*') {
        return vec![place.join(name)];
    }
    let entries = std::fs::read_dir(place).map_err(|error| note(place, error));
    let fits = |entry: &std::fs::DirEntry| fits(name.as_bytes(), entry.file_name().as_bytes());
    entries.into_iter().flatten().flatten().filter(fits).map(|entry| entry.path()).collect()
}

/// `*` stands for any bytes; as in a shell not for a dot at the beginning.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split_str("*");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    if first.is_empty() && name.starts_with(b".") {
        return false;
    }
    let parts: Vec<&[u8]> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::registry::{Keeper, Key, Wanted, WantedList};
    use std::sync::Arc;

    #[test]
    fn a_star_stands_for_any_part_of_a_name() {
        for (pattern, yes, no) in [
            ("*", &["a", "a.pem"][..], &[".hidden"][..]),
            ("*.pem", &["a.pem", "a.b.pem"], &[".pem", "a.pe", "a.pem~"]),
            ("a*b*c", &["abc", "aXbXc", "abbcc"], &["ac", "abcd", "bac"]),
            ("live", &["live"], &["live2", "liv"]),
            (".*", &[".hidden"], &["a"]),
        ] {
            for name in yes {
                assert!(fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
            }
            for name in no {
                assert!(!fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_pattern_finds_files_in_many_directories_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        for (host, file) in [("one", "chain.pem"), ("two", "chain.pem"), ("two", "key.pem")] {
            std::fs::create_dir_all(directory.path().join(host)).unwrap();
            std::fs::write(directory.path().join(host).join(file), "").unwrap();
        }
        std::fs::create_dir(directory.path().join("three")).unwrap();
        let (found, closed) = matching(&directory.path().join("*/chain*"));
        let expected = ["one/chain.pem", "two/chain.pem"].map(|path| directory.path().join(path));
        assert_eq!((BTreeSet::from_iter(found), closed), (BTreeSet::from(expected), None));
        let (found, closed) = matching(directory.path());
        assert!(found.is_empty() && closed.is_none(), "a directory is no file");
    }

    #[test]
    fn a_pattern_whose_files_another_found_already_is_not_called_missing_and_one_that_leads_nowhere_is_told_once()
     {
        struct Nobody;
        impl Keeper for Nobody {
            fn want(&self, _: Key, _: &Wanted) {}
            fn want_list(&self, _: Key, _: &WantedList) {}
            fn forget(&self, _: Key) {}
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("chain.pem"), "").unwrap();
        let patterns = ["*.pem", "chain*", "none*"].map(|name| directory.path().join(name));
        let mut listed = Listed::new(patterns.to_vec(), Registry::new(Arc::new(Nobody)), None);
        let told = std::cell::RefCell::new(Vec::new());
        for _ in 0..2 {
            listed.look(SystemTime::now(), &|notice| told.borrow_mut().push(notice.text.to_string()));
        }
        let missing: Vec<_> =
            told.take().into_iter().filter(|line| line.contains("there is no file")).collect();
        let place = patterns[2].display();
        assert_eq!(missing, [format!("OCSP: there is no file {place} (tls_ocsp_fetch)")]);
    }
}
