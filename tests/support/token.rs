//! A token of SoftHSM in a directory: what `pkcs11:` URLs name.

use super::ca::ca;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The module, where Debian's package has it. Its other half, `/usr/share/p11-kit/modules`, tells GnuTLS of it.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const PIN: &str = "1234";

/// A token with this label; whoever finds [`Token::settings`] in its environment sees it.
pub struct Token {
    label: &'static str,
    directory: PathBuf,
}

impl Token {
    /// One more directory in `place`, which all may read and write.
    pub fn make(place: &Path, label: &'static str) -> Self {
        let directory = place.join("tokens");
        fs::create_dir(&directory).expect("a directory");
        let token = Self { label, directory };
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            token.directory.display()
        );
        fs::write(token.configuration(), text).expect("writing");
        token.run(
            "softhsm2-util",
            &["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "123456"],
        );
        token
    }

    /// Puts in a key and a certificate of the authority, both by this name.
    pub fn put(&self, kind: &str, name: &str, file: &str) {
        let file = ca().path(file);
        let url = format!("pkcs11:token={}", self.label);
        let load = format!("--load-{kind}");
        self.run(
            "p11tool",
            &[
                "--provider",
                MODULE,
                "--login",
                "--write",
                &load,
                file.to_str().expect("a name"),
                "--label",
                name,
                &url,
            ],
        );
        let open = Command::new("chmod").args(["-R", "a+rwX"]).arg(&self.directory).status().expect("chmod");
        assert!(open.success());
    }

    /// The URL of something in it.
    pub fn url(&self, name: &str, kind: &str) -> String {
        let pin = if kind == "private" { format!("?pin-value={PIN}") } else { String::new() };
        format!("pkcs11:token={};object={name};type={kind}{pin}", self.label)
    }

    /// As an option that puts it into the environment.
    pub fn settings(&self) -> String {
        format!("add_environment = SOFTHSM2_CONF={}\n", self.configuration().display())
    }

    fn configuration(&self) -> PathBuf {
        self.directory.with_extension("conf")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", self.configuration())
            .env("GNUTLS_PIN", PIN)
            .stdin(Stdio::null())
            .output()
            .expect("a program of softhsm2 or gnutls-bin");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
