//! The appendfile transport: a mailbox in a file or directory (spec chapter "The appendfile transport").
//!
//! The work is cut in two. [`Appendfile::plan`] expands the options into an order that names everything; it runs
//! where the configuration is. [`perform()`] carries the order out; it runs with the user's rights and
//! reads nothing but the order and -D.
mod directories;
mod maildir;
mod mbox;
mod perform;
mod single_file;

pub use perform::{perform, perform_order, read_file};

use super::registry::{self, not_built};
use super::write_message::{HeaderChanges, header_block};
use super::{Job, Problem};
use crate::as_user::order::{Append, Format};
use crate::config::{ConfigError, Instance};
use crate::expand::{self, Context, ExpandError};
use crate::syntax::Template;
use crate::text::Value;
use bstr::{BStr, BString, ByteSlice};

/// Exim's error numbers that this transport gives.
pub mod errno {
    /// Something is not a directory.
    pub const NOT_DIRECTORY: i32 = -5;
    /// A file has too many links, or is no regular file.
    pub const LINKS: i32 = -4;
    /// A new file may not be made there (`create_file`).
    pub const BAD_CREATE: i32 = -34;
    /// Wrong owner or group.
    pub const OWNER: i32 = -6;
    /// Wrong mode.
    pub const MODE: i32 = -7;
    /// The mailbox could not be locked.
    pub const LOCK: i32 = -9;
    /// A path is wrong as it is written.
    pub const BAD_PATH: i32 = -21;
    /// The user could not be found or is not allowed.
    pub const USER: i32 = -29;
}

/// Options that are known but not built.
const NOT_BUILT: &[&str] = &[
    "batch_id",
    "file_format",
    "mailbox_filecount",
    "mailbox_size",
    "maildir_use_size_file",
    "maildirfolder_create_regex",
    "mailstore_format",
    "mailstore_prefix",
    "mailstore_suffix",
    "mbx_format",
    "notify_comsat",
    "quota",
    "quota_directory",
    "quota_filecount",
    "quota_size_regex",
    "quota_warn_message",
    "quota_warn_threshold",
    "use_bsmtp",
    "use_mbx_lock",
];

/// Where a new file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CreateFile {
    Anywhere,
    BelowHome,
    InHome,
}

/// A compiled appendfile transport; fields are the options of their names.
#[derive(Debug)]
pub struct Appendfile {
    name: BString,
    file: Option<Template>,
    directory: Option<Template>,
    directory_file: Option<Template>,
    maildir_format: bool,
    maildir_tag: Option<Template>,
    maildir_retries: u32,
    message_prefix: Option<Template>,
    message_suffix: Option<Template>,
    check_string: Option<BString>,
    escape_string: Option<BString>,
    create_directory: bool,
    create_file: CreateFile,
    directory_mode: u32,
    mode: u32,
    mode_fail_narrower: bool,
    check_owner: bool,
    check_group: bool,
    allow_symlink: bool,
    allow_fifo: bool,
    file_must_exist: bool,
    use_crlf: bool,
    use_lockfile: bool,
    use_fcntl_lock: bool,
    use_flock_lock: bool,
    lock_retries: u32,
    lock_interval: u64,
    lock_fcntl_timeout: u64,
    lockfile_mode: u32,
    lockfile_timeout: u64,
}

/// Prefix of a message in a mailbox file, unless the option says otherwise.
const MBOX_PREFIX: &str = "From ${if def:return_path{$return_path}{MAILER-DAEMON}} ${tod_bsdinbox}\n";

impl Appendfile {
    /// Reads the private options.
    pub fn compile(instance: &Instance) -> Result<Self, Vec<ConfigError>> {
        let options = &instance.options;
        let mut errors = not_built(instance, NOT_BUILT);
        let error = |text: String| ConfigError {
            at: instance.at.clone(),
            message: format!("{} transport:\n  {text}", instance.name),
            line: None,
            unsupported: false,
        };
        if options.text("file").is_some() && options.text("directory").is_some() {
            errors.push(error("only one of \"file\" or \"directory\" can be specified".into()));
        }
        let create_file = match options.plain("create_file").as_deref().map(Vec::as_slice) {
            None | Some(b"anywhere") => CreateFile::Anywhere,
            Some(b"belowhome") => CreateFile::BelowHome,
            Some(b"inhome") => CreateFile::InHome,
            Some(other) => {
                errors.push(error(format!("invalid value given for \"create_file\": {}", other.as_bstr())));
                CreateFile::Anywhere
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let text = |name: &str| options.text(name).cloned();
        let written = |name: &str| options.written(name).and_then(|_| options.plain(name));
        let number = |name: &str| u32::try_from(options.int(name)).unwrap_or_default();
        Ok(Self {
            name: instance.name.clone(),
            file: text("file"),
            directory: text("directory"),
            directory_file: text("directory_file"),
            maildir_format: options.bool("maildir_format"),
            maildir_tag: text("maildir_tag"),
            maildir_retries: number("maildir_retries"),
            message_prefix: options.written("message_prefix").and_then(|_| text("message_prefix")),
            message_suffix: options.written("message_suffix").and_then(|_| text("message_suffix")),
            check_string: written("check_string"),
            escape_string: written("escape_string"),
            create_directory: options.bool("create_directory"),
            create_file,
            directory_mode: number("directory_mode"),
            mode: number("mode"),
            mode_fail_narrower: options.bool("mode_fail_narrower"),
            check_owner: options.bool("check_owner"),
            check_group: options.bool("check_group"),
            allow_symlink: options.bool("allow_symlink"),
            allow_fifo: options.bool("allow_fifo"),
            file_must_exist: options.bool("file_must_exist"),
            use_crlf: options.bool("use_crlf"),
            use_lockfile: options.bool("use_lockfile"),
            use_fcntl_lock: options.bool("use_fcntl_lock"),
            use_flock_lock: options.bool("use_flock_lock"),
            lock_retries: number("lock_retries"),
            lock_interval: options.time("lock_interval").as_secs(),
            lock_fcntl_timeout: options.time("lock_fcntl_timeout").as_secs(),
            lockfile_mode: number("lockfile_mode"),
            lockfile_timeout: options.time("lockfile_timeout").as_secs(),
        })
    }

    /// Expands all options into an order. `context` has the variables of the delivery; `home` is where
    /// `create_file` measures from.
    pub fn plan(
        &self,
        generic: &registry::Generic,
        job: &Job,
        changes: &HeaderChanges,
        context: &mut Context,
        home: Option<&BStr>,
    ) -> Result<Append, Problem> {
        let (format, path) = self.target(job, context)?;
        let plain = format == Format::Mbox;
        let prefix = self.fixed_or(&self.message_prefix, plain, MBOX_PREFIX, "message_prefix", context)?;
        let suffix = self.fixed_or(&self.message_suffix, plain, "\n", "message_suffix", context)?;
        let mut before = Vec::from(prefix);
        if !generic.body_only {
            before.extend(header_block(&job.message.headers, changes));
        }
        if !generic.body_only {
            before.push(b'\n');
        }
        let body_size = if generic.headers_only { 0 } else { job.message.body_size };
        context.message.size = before.len() as u64 + body_size + suffix.len() as u64;
        let default = |text: &str| if plain { BString::from(text) } else { BString::default() };
        let tag = self.tag(format, context)?;
        let directory_file = self.name_in_directory(format, context)?;
        Ok(Append {
            format,
            path,
            before: before.into(),
            body_offset: job.message.body_offset(),
            body_size,
            after: suffix,
            check_string: self.check_string.clone().unwrap_or_else(|| default("From ")),
            escape_string: self.escape_string.clone().unwrap_or_else(|| default(">From ")),
            use_crlf: self.use_crlf,
            mode: self.mode,
            mode_fail_narrower: self.mode_fail_narrower,
            create_directory: self.create_directory,
            directory_mode: self.directory_mode,
            create_below: match self.create_file {
                CreateFile::Anywhere => None,
                _ => Some(home.unwrap_or_default().into()),
            },
            create_directly: self.create_file == CreateFile::InHome,
            file_must_exist: self.file_must_exist,
            check_owner: self.check_owner,
            check_group: self.check_group,
            allow_symlink: self.allow_symlink,
            allow_fifo: self.allow_fifo,
            use_lockfile: self.use_lockfile,
            lockfile_mode: self.lockfile_mode,
            lockfile_timeout: self.lockfile_timeout,
            use_fcntl_lock: self.use_fcntl_lock,
            use_flock_lock: self.use_flock_lock,
            lock_retries: self.lock_retries,
            lock_interval: self.lock_interval,
            lock_fcntl_timeout: self.lock_fcntl_timeout,
            maildir_tag: tag,
            maildir_retries: self.maildir_retries,
            hostname: context.globals.primary_hostname.clone(),
            directory_file,
            ..Append::default()
        })
    }

    /// Where to: a redirection's file or directory, else the options.
    fn target(&self, job: &Job, context: &Context) -> Result<(Format, BString), Problem> {
        let redirected = job.addresses.first().and_then(|address| address.redirected.as_ref());
        let (value, is_directory) = match (redirected, &self.file, &self.directory) {
            (Some(path), None, None) => (path.clone(), path.bytes().ends_with(b"/")),
            (_, Some(file), _) => (self.expand(file, "file", context)?, false),
            (_, None, Some(directory)) => (self.expand(directory, "directory", context)?, true),
            (None, None, None) => {
                let text = format!("Mandatory file or directory option missing from {} transport", self.name);
                return Err(problem(-1, text));
            }
        };
        let path = match value.to_clean("file or directory name") {
            Ok(path) => path,
            Err(error) => {
                let what = format!("file or directory name for {} transport", self.name);
                return Err(problem(-1, format!("Tainted '{}' ({what}) not permitted", error.text)));
            }
        };
        if !path.starts_with(b"/") {
            let text = format!("appendfile: file or directory name \"{path}\" is not absolute");
            return Err(problem(errno::BAD_PATH, text));
        }
        let path = BString::from(if is_directory { trim_slashes(path) } else { path.as_bytes() });
        let format = match (is_directory, self.maildir_format) {
            (true, true) => Format::Maildir,
            (true, false) => Format::Directory,
            (false, _) => Format::Mbox,
        };
        Ok((format, path))
    }

    fn fixed_or(
        &self,
        written: &Option<Template>,
        plain: bool,
        default: &str,
        option: &str,
        context: &Context,
    ) -> Result<BString, Problem> {
        let template = match written {
            Some(template) => template.clone(),
            None if plain => {
                Template::parse(default.as_bytes(), &crate::syntax::Position::nowhere("default"))
                    .map_err(|error| problem(-1, error.to_string()))?
            }
            None => return Ok(BString::default()),
        };
        self.expand(&template, option, context).map(Value::into_bytes)
    }

    /// The end of a maildir file's name; a colon stands before one that begins with a letter or digit.
    fn tag(&self, format: Format, context: &Context) -> Result<BString, Problem> {
        let Some(template) = self.maildir_tag.as_ref().filter(|_| format == Format::Maildir) else {
            return Ok(BString::default());
        };
        let tag = self.expand(template, "maildir_tag", context)?.into_bytes();
        let name = BString::from(tag.rsplit_str("/").next().unwrap_or_default());
        if name.first().is_some_and(u8::is_ascii_alphanumeric) {
            return Ok([b":", name.as_slice()].concat().into());
        }
        Ok(name)
    }

    /// `directory_file`; its `$inode` is only known to whoever creates the file, who puts it in place of
    /// [`single_file::INODE_MARK`].
    fn name_in_directory(&self, format: Format, context: &mut Context) -> Result<BString, Problem> {
        let Some(template) = self.directory_file.as_ref().filter(|_| format == Format::Directory) else {
            return Ok(BString::default());
        };
        let text = template.text();
        let marked =
            text.replace("${inode}", single_file::INODE_MARK).replace("$inode", single_file::INODE_MARK);
        let template =
            Template::parse(&marked, template.at()).map_err(|error| problem(-1, error.to_string()))?;
        self.expand(&template, "directory_file", context).map(Value::into_bytes)
    }

    fn expand(&self, template: &Template, option: &str, context: &Context) -> Result<Value, Problem> {
        expand::expand(template, context).map_err(|error| {
            let what = match option {
                "file" | "directory" => "file or directory name".to_owned(),
                other => format!("\"{other}\""),
            };
            let text = format!(
                "Expansion of \"{}\" ({what} for {} transport) failed: {}",
                template.text(),
                self.name,
                error_text(&error)
            );
            problem(-1, text)
        })
    }
}

fn error_text(error: &ExpandError) -> String {
    error.to_string()
}

fn trim_slashes(path: &[u8]) -> &[u8] {
    let trimmed = path.trim_end_with(|c| c == '/');
    if trimmed.is_empty() { b"/" } else { trimmed }
}

fn problem(errno: i32, text: impl Into<BString>) -> Problem {
    Problem { text: text.into(), errno, ..Problem::default() }
}
