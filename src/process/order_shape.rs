//! What an order says beside its identity, held against the options that it must have come from: the way from router to
//! transport, the shape of a path, modes and switches. Pure.
//!
//! An expanded option cannot be foretold, but what is written around its variables can: `/var/mail/$local_part_data` is
//! never `/home/joe/.ssh/authorized_keys`.

use crate::as_user::{Append, Format};
use crate::config::{Instance, Options};
use crate::syntax::Template;
use crate::syntax::tree::Part;
use bstr::{BStr, ByteSlice};

/// The router hands addresses to this transport: by `transport`, or as files, directories or pipes of its list.
pub fn check_way(router: &Instance, transport: &Instance) -> Result<(), String> {
    let names = |option: &str| {
        let template = router.options.text(option);
        template.is_some_and(|template| match template.as_literal() {
            Some(name) => !name.is_empty() && name.trim() == transport.name.as_bytes(),
            None => true, // expanded
        })
    };
    let options: &[&str] = match router.driver.name {
        "redirect" => &["file_transport", "directory_transport", "pipe_transport"],
        _ => &["transport"],
    };
    let in_rules = router.driver.name == "manualroute"
        && ["route_list", "route_data"].iter().filter_map(|option| router.options.text(option)).any(|text| {
            let names = |word: &[u8]| word == transport.name.as_bytes();
            !text.is_literal() || text.text().fields_with(|c| c.is_whitespace() || c == ';').any(names)
        });
    if in_rules || options.iter().any(|option| names(option)) {
        return Ok(());
    }
    Err(format!("the {} router hands nothing to the {} transport", router.name, transport.name))
}

/// A path could have come of this option: its literal parts stand in it in their order, the first at its start, the
/// last at its end; and it leads nowhere back.
pub fn check_path(template: &Template, path: &BStr) -> Result<(), String> {
    let refusal = || Err(format!("the configuration fixes the path {}, not {path}", template.text()));
    let back = |text: &[u8]| text.split_str("/").any(|part| part == b"..");
    if let Some(text) = template.as_literal() {
        return if without_end(text) == without_end(path) { Ok(()) } else { refusal() };
    }
    if back(path) && !back(template.text()) {
        return refusal();
    }
    // A slash at the end means nothing, and is what an empty variable leaves.
    let path = without_end(path);
    if has_shape(template, path) || has_shape(template, &[path, b"/"].concat()) { Ok(()) } else { refusal() }
}

fn has_shape(template: &Template, path: &[u8]) -> bool {
    let mut rest = path;
    let parts = &template.tree().parts;
    for (at, part) in parts.iter().enumerate() {
        let Part::Literal(text) = part else { continue };
        let found = match (at, at + 1 == parts.len()) {
            (0, _) => rest.starts_with(text).then_some(text.len()),
            (_, true) => rest.ends_with(without_end(text)).then_some(rest.len()),
            _ => rest.find(text).map(|start| start + text.len()),
        };
        let Some(end) = found else { return false };
        rest = &rest[end..];
    }
    true
}

fn without_end(path: &[u8]) -> &[u8] {
    path.trim_end_with(|c| c == '/')
}

/// What is not expanded is as it is written: a mode, above all, decides who may do what with a file, and could make a
/// program of it that runs with its owner's rights.
pub fn check_append(options: &Options, append: &Append) -> Result<(), String> {
    let numbers = [
        ("mode", append.mode),
        ("directory_mode", append.directory_mode),
        ("lockfile_mode", append.lockfile_mode),
        ("lock_retries", append.lock_retries),
    ];
    let switches = [
        ("allow_symlink", append.allow_symlink),
        ("allow_fifo", append.allow_fifo),
        ("check_owner", append.check_owner),
        ("check_group", append.check_group),
        ("create_directory", append.create_directory),
        ("file_must_exist", append.file_must_exist),
        ("mode_fail_narrower", append.mode_fail_narrower),
        ("use_lockfile", append.use_lockfile),
    ];
    let maildir = append.format == Format::Maildir;
    let anywhere = options.plain("create_file").is_none_or(|text| text == "anywhere");
    let other = numbers
        .iter()
        .find(|(name, value)| options.int(name) != i64::from(*value))
        .map(|(name, _)| *name)
        .or_else(|| switches.iter().find(|(name, value)| options.bool(name) != *value).map(|(name, _)| *name))
        .or_else(|| (maildir && !options.bool("maildir_format")).then_some("maildir_format"))
        .or_else(|| (anywhere != append.create_below.is_none()).then_some("create_file"));
    match other {
        Some(name) => Err(format!("the configuration has another {name}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::Position;

    fn fits(template: &str, path: &str) -> bool {
        let template = Template::parse(template.as_bytes(), &Position::nowhere("t")).unwrap();
        check_path(&template, path.into()).is_ok()
    }

    #[test]
    fn a_path_has_the_shape_that_is_written() {
        for (template, path) in [
            ("/var/mail/$local_part_data", "/var/mail/joe"),
            ("/var/mail/$local_part_data", "/var/mail/a/b"),
            ("/var/mail/$local_part_data", "/var/mail"),
            ("/srv/$domain_data/$local_part_data/Maildir/", "/srv/d/l/Maildir"),
            ("$home/Maildir", "/home/joe/Maildir"),
            ("${if eq{a}{b}{/x/../y}{/z}}", "/anything"),
            ("/srv/../$home", "/srv/../a"),
            ("/srv/fixed/", "/srv/fixed"),
            ("/srv/${lc:$domain}/$local_part", "/srv/d/l"),
            ("/a\\$b/$domain", "/a$b/c"),
            ("$acl_m0", "/x"),
        ] {
            assert!(fits(template, path), "{template} {path}");
        }
        for (template, path) in [
            ("/var/mail/$local_part_data", "/home/joe/.ssh/authorized_keys"),
            ("/var/mail/$local_part_data", "/var/mail/../../home/joe/.profile"),
            ("/var/mail/$local_part_data", "/var"),
            ("$home/Maildir", "/home/joe/.ssh"),
            ("$home/.forward", "/home/joe/.forward/x"),
            ("/srv/$domain/box/$local_part", "/srv/d/l"),
            ("/srv/fixed", "/srv/fixed/more"),
        ] {
            assert!(!fits(template, path), "{template} {path}");
        }
    }
}
