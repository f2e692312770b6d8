//! A server that staples anything for each certificate of its chain, without any check: a small C program on GnuTLS
//! (`chain_stapler.c`), since no program here can be told to. Needs GnuTLS 3.6.3 or later.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The server, until this is dropped.
pub struct Stapler {
    pub address: SocketAddr,
    child: Child,
    _files: tempfile::TempDir,
}

/// Compiled once for each test binary, by the compiler that links it.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let made = || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chain_stapler");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/chain_stapler.c");
        let output = Command::new("cc").arg("-o").arg(&path).arg(source).arg("-lgnutls").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (directory, path)
    };
    &PROGRAM.get_or_init(made).1
}

/// Serves connections one after the other; `staples` are for the chain's certificates, leaf first. Tickets are given out, so
/// that sessions can be resumed.
pub fn staple_chain(chain: &[u8], key: &[u8], staples: &[Option<Vec<u8>>]) -> Stapler {
    let files = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = files.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut command = Command::new(program());
    command.arg(put("chain.pem", chain)).arg(put("key.pem", key));
    for (at, staple) in staples.iter().enumerate() {
        match staple {
            Some(bytes) => command.arg(put(&format!("{at}.der"), bytes)),
            None => command.arg("-"),
        };
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
    Stapler { address, child, _files: files }
}

impl Drop for Stapler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
