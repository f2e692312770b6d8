//! The mode without root: a daemon and its callers under one uid, beside a recording that was made with several.
//!
//! Who is who is folded into one name in both texts before they are compared. A case that is about the rights of
//! different users cannot be played so; `one_user.txt` names each with its reason, and it is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// `one_user.txt`: `CASE: reason`.
pub fn cannot(root: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root.join("one_user.txt")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(": ").map(|(case, why)| (case.to_owned(), why.to_owned())))
        .collect()
}

/// The text with all users as one, under whose uid everything runs here.
pub fn fold(text: &str) -> String {
    let own = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    // the whole of it (quoted where that has to be), or what stands before the first comma; it may be the user's own name
    let gecos = own.as_ref().map(|user| user.gecos.to_string_lossy().into_owned()).unwrap_or_default();
    let spoken = gecos.split(',').next().unwrap_or_default().to_owned();
    let own_names = [format!("\"{gecos}\""), gecos, spoken, "@CALLER@".to_owned()];
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut names = vec![
        ("Paul Caller <@CALLER@@test.example>".to_owned(), "@CALLER@@test.example"),
        ("@EXIM@ @EXIM_UID@ @EXIM_GID@".to_owned(), "@IDS@"),
        ("@CALLER@ 64911 64911".to_owned(), "@IDS@"),
        (format!("@CALLER@ {uid} {gid}"), "@IDS@"),
        (format!("@USER@ {uid} {gid}"), "@IDS@"),
        ("root 0 0".to_owned(), "@IDS@"),
        ("@USER@".to_owned(), "@CALLER@"),
        ("@EXIM@".to_owned(), "@CALLER@"),
        ("U=root ".to_owned(), "U=@CALLER@ "),
        ("from root by".to_owned(), "from @CALLER@ by"),
        ("-ident root".to_owned(), "-ident @CALLER@"),
        ("-auth_id root".to_owned(), "-auth_id @CALLER@"),
        ("root@test.example".to_owned(), "@CALLER@@test.example"),
        ("/etc/exim4/exim4.conf".to_owned(), "@DIR@/exim.conf"),
        ("root <@CALLER@@test.example>".to_owned(), "@CALLER@@test.example"),
        ("From:  <@CALLER@@test.example>".to_owned(), "From: @CALLER@@test.example"),
    ];
    for name in own_names.into_iter().rev().filter(|name| !name.is_empty()) {
        names.insert(0, (format!("{name} <@CALLER@@test.example>"), "@CALLER@@test.example"));
    }
    let folded = names.into_iter().fold(text.to_owned(), |text, (from, to)| text.replace(&from, to));
    folded.lines().map(without_length).collect()
}

/// A header line in a -H file begins with its length, and names have lengths of their own.
fn without_length(line: &str) -> String {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_stored = rest.len() + 3 == line.len() && line.contains("@CALLER@");
    if is_stored { format!("@S@{rest}\n") } else { format!("{line}\n") }
}
