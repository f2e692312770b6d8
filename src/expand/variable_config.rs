//! Variables of the configuration, this host and this process.

use super::variable::{Row, number, own};
use crate::expand::Context;
use crate::text::Value;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Name to value.
pub const TABLE: &[Row] = &[
    ("bounce_return_size_limit", |c| main_int(c, "bounce_return_size_limit")),
    ("compile_date", |_| Some(Value::clean(crate::config::build_settings::build_date()))),
    ("compile_number", |_| Some(Value::clean("1"))),
    ("config_dir", |c| c.globals.config_file.parent().and_then(path)),
    ("config_file", |c| path(&c.globals.config_file)),
    ("exim_gid", |c| number(c.globals.oxim_gid)),
    ("exim_path", |c| main_text(c, "exim_path")),
    ("exim_uid", |c| number(c.globals.oxim_uid)),
    ("exim_version", |c| main_text(c, "exim_version")),
    ("initial_cwd", |_| std::env::current_dir().ok().and_then(|directory| path(&directory))),
    ("inode", |_| number(0)),
    ("item", |c| c.dynamic.borrow().item.clone()),
    ("load_average", |_| number(load_average())),
    ("localhost_number", |c| main_text(c, "localhost_number").or_else(|| number(0))),
    ("log_inodes", |c| space(c).and_then(|(_, inodes)| number(inodes))),
    ("log_space", |c| space(c).and_then(|(kilobytes, _)| number(kilobytes))),
    ("lookup_dnssec_authenticated", |c| own(&c.dynamic.borrow().lookup_dnssec_authenticated)),
    ("pid", |_| number(std::process::id())),
    ("primary_hostname", |c| own(&c.globals.primary_hostname)),
    ("qualify_domain", |c| own(&c.globals.qualify_domain)),
    ("qualify_recipient", |c| own(&c.globals.qualify_recipient)),
    ("return_size_limit", |c| main_int(c, "bounce_return_size_limit")),
    ("runrc", |c| number(c.dynamic.borrow().runrc)),
    ("spool_directory", |c| path(&c.globals.spool_directory)),
    ("spool_inodes", |c| space(c).and_then(|(_, inodes)| number(inodes))),
    ("spool_space", |c| space(c).and_then(|(kilobytes, _)| number(kilobytes))),
    ("value", |c| c.dynamic.borrow().value.clone()),
    ("version_number", |c| main_text(c, "exim_version")),
];

fn path(path: &Path) -> Option<Value> {
    own(path.as_os_str().as_bytes())
}

fn main_int(context: &Context, option: &str) -> Option<Value> {
    number(context.globals.main.def(option).map_or(0, |_| context.globals.main.int(option)))
}

fn main_text(context: &Context, option: &str) -> Option<Value> {
    context.globals.main.def(option)?;
    own(&context.globals.main.plain(option)?)
}

/// Load over the last minute, times 1000.
fn load_average() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    (load * 1000.0).round() as u64
}

/// Kilobytes and inodes free for us where the spool is.
fn space(context: &Context) -> Option<(u64, u64)> {
    let answer = nix::sys::statvfs::statvfs(&context.globals.spool_directory).ok()?;
    let kilobytes = answer.blocks_available() as u64 * (answer.fragment_size() as u64 / 1024).max(1);
    Some((kilobytes, answer.files_available() as u64))
}
