//! openssl's own responder (`openssl ocsp -index`), for as long as it is held.

use super::ca::ca;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// It signs as `delegate`.
pub struct Openssl {
    pub url: String,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Openssl {
    /// It knows certificates of `inter` with these serial numbers; the second part says that one is revoked.
    pub fn start(serials: impl IntoIterator<Item = (Vec<u8>, bool)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join("index");
        let line = |(serial, revoked): (Vec<u8>, bool)| {
            let serial: String = serial.iter().map(|byte| format!("{byte:02X}")).collect();
            let state = if revoked { "R\t400101000000Z\t260101000000Z" } else { "V\t400101000000Z\t" };
            format!("{state}\t{serial}\tunknown\t/CN={serial}\n")
        };
        fs::write(&index, serials.into_iter().map(line).collect::<String>()).unwrap();
        let mut child = Command::new("openssl")
            .args(["ocsp", "-port", "0", "-ndays", "1", "-index"])
            .arg(&index)
            .arg("-CA")
            .arg(ca().path("inter.pem"))
            .arg("-rsigner")
            .arg(ca().path("delegate.pem"))
            .arg("-rkey")
            .arg(ca().path("delegate.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // "ACCEPT [::]:40123 PID=1"
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let port = line.strip_prefix("ACCEPT ")?.split(' ').next()?.rsplit(':').next()?.to_owned();
            Some(port.parse::<u16>().unwrap())
        });
        // what else it says is read, or its pipe would fill
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://127.0.0.1:{}/", port.expect("openssl says where it listens"));
        Self { url, child, _directory: directory }
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
