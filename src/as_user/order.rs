//! The orders, their answers, and the call that carries them out.

use super::wire::{Wire, WireError};
use crate::{wire_enum, wire_struct};
use bstr::BString;
use std::fs::File;
use std::io;

/// Gives an order to whoever may become another user: the master's socket, the helper of a set-uid start,
/// or (where all runs under one uid) the same with nothing to change.
pub trait AsUser: Send + Sync {
    /// Has `order` carried out as `who` and waits for the answer. `files` travel with it: for [`Order::Append`]
    /// the message's -D, opened anew for reading (never the locked descriptor); it is read with `pread` only.
    ///
    /// An error is temporary: no child could be had, or it died.
    fn carry_out(&self, who: &Identity, order: &Order, files: &[&File]) -> io::Result<Answer>;
}

wire_struct! {
    /// Who an order is carried out as.
    pub struct Identity {
        /// uid; 0 and never_users are refused.
        pub uid: u32,
        /// gid
        pub gid: u32,
        /// The login name whose supplementary groups are taken (`initgroups`); none: no supplementary groups.
        pub initgroups: Option<BString>,
        /// The router that gave the identity, for the check against the configuration; empty if none did.
        pub router: BString,
        /// The transport that gives the order; empty for a router's own orders.
        pub transport: BString,
    }
}

wire_enum! {
    /// One order.
    pub enum Order {
        /// Append one message to a mailbox.
        Append(Append) = 1,
        /// Read a .forward or filter file.
        ReadFile(ReadFile) = 2,
        /// Tell which of these files can be seen (`require_files`).
        CheckFiles(CheckFiles) = 3,
        /// Run a command with a message or nothing on its standard input.
        Run(Run) = 4,
    }
}

wire_enum! {
    /// What came of an order.
    pub enum Answer {
        /// [`Order::Append`]: the message lies in the mailbox, flushed to disk.
        Done(Done) = 1,
        /// Nothing was done, or it was undone.
        Trouble(Trouble) = 2,
        /// [`Order::ReadFile`]
        File(FileRead) = 3,
        /// [`Order::CheckFiles`]: an errno for each path in order, 0 for those that exist.
        Checked(Vec<i32>) = 4,
        /// [`Order::Run`]
        Ran(Ran) = 5,
    }
}

/// How a mailbox is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One file, messages one after the other.
    #[default]
    Mbox,
    /// A directory with `tmp`, `new` and `cur`.
    Maildir,
    /// A directory with one file for each message (`directory_file`).
    Directory,
}

impl Wire for Format {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Mbox => 1,
            Self::Maildir => 2,
            Self::Directory => 3,
        });
    }
    fn take(input: &mut &[u8]) -> Result<Self, WireError> {
        match u8::take(input)? {
            1 => Ok(Self::Mbox),
            2 => Ok(Self::Maildir),
            3 => Ok(Self::Directory),
            other => Err(WireError::Unknown(other.into())),
        }
    }
}

wire_struct! {
    /// Append one message to a mailbox: `appendfile`'s options, all expanded. `files[0]` is -D.
    pub struct Append {
        /// Mailbox layout.
        pub format: Format,
        /// The file, or the directory.
        pub path: BString,
        /// All that comes before the body: `message_prefix`, headers, blank line; `\n` line ends.
        pub before: BString,
        /// Where the body starts in -D.
        pub body_offset: u64,
        /// Bytes of the body; 0 with `headers_only`.
        pub body_size: u64,
        /// All that comes after the body: `message_suffix`.
        pub after: BString,
        /// A line that starts with this ...
        pub check_string: BString,
        /// ... gets this in its place.
        pub escape_string: BString,
        /// Lines end with CRLF.
        pub use_crlf: bool,
        /// Mode of a new file.
        pub mode: u32,
        /// An existing file of another mode that is narrower is refused.
        pub mode_fail_narrower: bool,
        /// Directories that are missing are made ...
        pub create_directory: bool,
        /// ... with this mode.
        pub directory_mode: u32,
        /// `create_file`: a new file must lie below this directory; none: anywhere.
        pub create_below: Option<BString>,
        /// `create_file = inhome`: directly in it.
        pub create_directly: bool,
        /// The file must be there already.
        pub file_must_exist: bool,
        /// A directory that must be there and open to the user (Exim delivers with it as its current directory;
        /// here all paths are absolute, so it is only looked at). Empty: none.
        pub current_directory: BString,
        /// Owner of an existing file must be the uid.
        pub check_owner: bool,
        /// Group of an existing file must be the gid.
        pub check_group: bool,
        /// A symbolic link is followed.
        pub allow_symlink: bool,
        /// A FIFO is written to.
        pub allow_fifo: bool,
        /// Use a lock file; its mode; the age in seconds at which it is stale (0: never).
        pub use_lockfile: bool,
        /// See above.
        pub lockfile_mode: u32,
        /// See above.
        pub lockfile_timeout: u64,
        /// Lock by fcntl, and flock.
        pub use_fcntl_lock: bool,
        /// See above.
        pub use_flock_lock: bool,
        /// Tries and the seconds between them.
        pub lock_retries: u32,
        /// See above.
        pub lock_interval: u64,
        /// Seconds to wait for an fcntl lock; 0: do not wait, try.
        pub lock_fcntl_timeout: u64,
        /// Bytes that the mailbox may hold; 0: no limit.
        pub quota: u64,
        /// Files that the mailbox may hold; 0: no limit.
        pub quota_filecount: u64,
        /// The new message counts too.
        pub quota_is_inclusive: bool,
        /// The directory whose size counts; empty: the mailbox.
        pub quota_directory: BString,
        /// Added to a maildir file's name.
        pub maildir_tag: BString,
        /// How often a maildir name is tried.
        pub maildir_retries: u32,
        /// `$primary_hostname`, for names of files.
        pub hostname: BString,
        /// Name of the file, for [`Format::Directory`].
        pub directory_file: BString,
    }
}

wire_struct! {
    /// Read a file whole, and tell whose it is; the caller judges owner and mode.
    pub struct ReadFile {
        /// The file.
        pub path: BString,
        /// More bytes than this are an error.
        pub limit: u64,
    }
}

wire_struct! {
    /// Tell which files can be seen.
    pub struct CheckFiles {
        /// The files.
        pub paths: Vec<BString>,
    }
}

wire_struct! {
    /// Run a command, without a shell. `files[0]`, if there is one, is -D.
    pub struct Run {
        /// The program (absolute) and its arguments.
        pub command: Vec<BString>,
        /// `NAME=value`; nothing else is in the environment.
        pub environment: Vec<BString>,
        /// Where it runs.
        pub directory: BString,
        /// umask
        pub umask: u32,
        /// Seconds until it is killed; 0: never.
        pub timeout: u64,
        /// Written to its standard input before the body.
        pub before: BString,
        /// Where the body starts in -D, and its size.
        pub body_offset: u64,
        /// See above.
        pub body_size: u64,
        /// Written after the body.
        pub after: BString,
        /// See [`Append`].
        pub check_string: BString,
        /// See [`Append`].
        pub escape_string: BString,
        /// See [`Append`].
        pub use_crlf: bool,
        /// Output beyond this many bytes kills it.
        pub max_output: u64,
    }
}

wire_struct! {
    /// A message was appended.
    pub struct Done {
        /// The file that now holds it.
        pub file: BString,
        /// Bytes written.
        pub size: u64,
        /// Bytes in the mailbox before, if that was looked up; else 0.
        pub mailbox_size: u64,
    }
}

wire_struct! {
    /// An order came to nothing.
    pub struct Trouble {
        /// Trying again cannot help.
        pub permanent: bool,
        /// For the log, in Exim's words.
        pub text: BString,
        /// errno, or one of Exim's negative numbers; 0: none.
        pub errno: i32,
        /// Exim's more_errno (minutes since a mailbox over quota was read).
        pub more_errno: i32,
        /// Our own machinery is to blame, not the mailbox: it is tried again whatever the retry rules say.
        pub ours: bool,
    }
}

wire_struct! {
    /// A file that was read.
    pub struct FileRead {
        /// What is in it.
        pub content: BString,
        /// Its owner.
        pub uid: u32,
        /// Its group.
        pub gid: u32,
        /// Its type and mode (`st_mode`).
        pub mode: u32,
    }
}

wire_struct! {
    /// A command has ended.
    pub struct Ran {
        /// Its exit status; 127 with `errno` set if it could not be started.
        pub status: i32,
        /// The signal that ended it; 0: none.
        pub signal: i32,
        /// Standard output and standard error.
        pub output: BString,
        /// It was killed for its time.
        pub timed_out: bool,
        /// It was killed for its output.
        pub too_much_output: bool,
        /// Not all of the message could be written to it.
        pub write_failed: bool,
        /// Why it could not be started; 0: it was.
        pub errno: i32,
    }
}

impl Trouble {
    /// Our own machinery did not do it; nothing is known of the mailbox.
    pub fn ours(text: impl Into<BString>) -> Self {
        Self { text: text.into(), ours: true, ..Self::default() }
    }
    /// From a failed system call; temporary.
    pub fn from_io(text: impl Into<BString>, error: &io::Error) -> Self {
        Self { text: text.into(), errno: error.raw_os_error().unwrap_or(0), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_travels_whole() {
        let order = Order::Append(Append {
            format: Format::Maildir,
            path: "/home/joe/Maildir".into(),
            before: "From: x\n\n".into(),
            create_below: Some("/home/joe".into()),
            ..Append::default()
        });
        assert_eq!(Order::from_wire(&order.to_wire()), Ok(order));
    }

    #[test]
    fn an_order_cut_short_is_refused() {
        let bytes = Order::ReadFile(ReadFile { path: "/x".into(), limit: 5 }).to_wire();
        for end in 0..bytes.len() {
            assert!(Order::from_wire(&bytes[..end]).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_back_as_it_was_or_refused(
            changes in proptest::collection::vec((0_usize.., 0_u8..), 0..6),
            cut in 0_usize..40,
        ) {
            let who = Identity { uid: 1, router: "r".into(), ..Identity::default() };
            let order = Order::Append(Append { path: "/x".into(), create_below: Some("/".into()), ..Append::default() });
            let mut bytes = (who, order).to_wire();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut);
            if let Ok(read) = <(Identity, Order)>::from_wire(&bytes) {
                proptest::prop_assert_eq!(&read.to_wire(), &bytes);
            }
            let _ = Answer::from_wire(&bytes);
        }
    }
}
