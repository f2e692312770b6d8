//! What the SMTP worker may still write to: the spool, the logs, and where `tls_dhparam` names a file that is to be made
//! (Landlock).
//!
//! A worker that was taken over cannot leave anything elsewhere, whatever the rights of its uid are. It is done
//! where it breaks nothing that the configuration asks for; else, and where the kernel cannot, the debug log says so.

use super::snapshot::Snapshot;
use crate::expand::context::Globals;
use crate::sys::sandbox;
use bstr::ByteSlice;
use std::path::{Path, PathBuf};

/// Takes from this thread, and those that it starts, the right to write anywhere but in the spool and the logs. Where
/// the configuration starts programs or writes to data bases, only it knows where those write.
pub fn confine(globals: &Globals, snapshot: &Snapshot) {
    let result = match writing_word(snapshot) {
        Some(word) => Err(format!("the configuration has the word \"{word}\"")),
        // Where the module of a token writes (locks, a device) is its own affair.
        None if globals.main.bool("gnutls_allow_auto_pkcs11") => {
            Err("gnutls_allow_auto_pkcs11 is set".to_owned())
        }
        None => {
            let mut places = writable_places(&globals.spool_directory);
            places.extend(globals.log.places());
            places.extend(place_of_parameters(globals));
            // A directory that is still to be made needs its parent.
            let there = |place: &PathBuf| place.ancestors().find(|part| part.exists()).map(Path::to_path_buf);
            sandbox::confine_writes(&places.iter().filter_map(there).collect::<Vec<_>>())
        }
    };
    match result {
        Ok(()) => log::debug!(target: "process", "writes only beneath the spool and the logs"),
        Err(why) => log::debug!(target: "process", "writes are not confined: {why}"),
    }
}

/// The spool, and where links in it lead.
fn writable_places(spool: &Path) -> Vec<PathBuf> {
    let mut places = vec![spool.to_path_buf(), PathBuf::from("/dev/null")];
    let entries = std::fs::read_dir(spool).into_iter().flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    places.extend(links.filter_map(|entry| std::fs::canonicalize(entry.path()).ok()));
    places
}

/// Where the file of `tls_dhparam` is still to be made.
fn place_of_parameters(globals: &Globals) -> Option<PathBuf> {
    let written = globals.main.text("tls_dhparam").filter(|template| template.is_literal())?;
    let path = written.text().as_bytes().to_path().ok()?.to_path_buf();
    (path.is_absolute() && !path.exists()).then(|| path.parent().map(Path::to_path_buf))?
}

/// A word in the configuration (comments apart) that may make an expansion write somewhere: it starts a program,
/// changes a data base, or expands text that is not known yet. Macros hide no word, since their text is looked at too.
fn writing_word(snapshot: &Snapshot) -> Option<&'static str> {
    const WORDS: [&str; 5] = ["run", "sqlite", "expand", "perl", "dlfunc"];
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let has = |text: &[u8], word: &str| {
        text.find_iter(word).any(|at| {
            !is_part(at.checked_sub(1).and_then(|before| text.get(before)))
                && !is_part(text.get(at + word.len()))
        })
    };
    let files = snapshot.files.iter().filter_map(|(_, text)| text.as_ref());
    let lines = files.flat_map(|text| text.lines()).filter(|line| !line.trim_start().starts_with(b"#"));
    let texts: Vec<&[u8]> = lines.chain(snapshot.macros.iter().map(|(_, value)| value.as_slice())).collect();
    WORDS.into_iter().find(|word| texts.iter().any(|text| has(text, word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_may_write_are_found_outside_of_comments_and_as_whole_words() {
        let of = |text: &str, macros: &str| {
            let files = vec![("c".into(), Some(text.into())), ("away".into(), None)];
            writing_word(&Snapshot {
                files,
                macros: vec![("M".into(), macros.into())],
                ..Snapshot::default()
            })
        };
        assert_eq!(of("# to run it\nqueue_run_in_order\n  # sqlite\nrunq = x\n", ""), None);
        assert_eq!(of("a = ${run{/bin/true}}\n", ""), Some("run"));
        assert_eq!(of("RUN = run\na = ${RUN{/bin/true}}\n", ""), Some("run"));
        assert_eq!(of("a = ${M {/bin/true}}", "run"), Some("run"));
        assert_eq!(of("a = ${lookup sqlite{/x select 1}}", ""), Some("sqlite"));
        assert_eq!(of("a = ${expand:$h_x:}", ""), Some("expand"));
    }
}
