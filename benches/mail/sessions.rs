//! STARTTLS sessions with a P-256 certificate: EHLO, STARTTLS, handshake, EHLO, QUIT.

use super::client::Client;
use super::load::Figures;
use super::server::{Program, Server, empty_run};
use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Sessions in one run.
const SESSIONS: usize = 300;

/// A directory with what [`make_certificate`] makes, readable for every server.
pub fn keys() -> anyhow::Result<tempfile::TempDir> {
    let keys = tempfile::tempdir()?;
    make_certificate(keys.path()).context("making the certificate")?;
    let open: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(keys.path(), open)?;
    Ok(keys)
}

/// The main options for that certificate.
pub fn options(keys: &Path, staple: bool) -> String {
    let here = keys.display();
    let mut extra = format!("tls_certificate = {here}/chain.pem\ntls_privatekey = {here}/key.pem\n");
    if staple {
        extra.push_str(&format!("tls_ocsp_file = {here}/good.der\n"));
    }
    extra
}

/// Makes `SESSIONS` sessions and tells how many a second, and the server's CPU for each.
pub fn run(program: &Program, keys: &Path, staple: bool) -> anyhow::Result<Figures> {
    let extra = options(keys, staple);
    let idle = empty_run(program, &extra)?;
    let server = Server::start(program, &extra)?;
    let took = make(SESSIONS, server.port, staple, &|_| None)?;
    let cpu = server.stop()?.cpu.saturating_sub(idle);
    Ok(Figures {
        per_second: SESSIONS as f64 / took.as_secs_f64(),
        cpu_ms: cpu.as_secs_f64() * 1000.0 / SESSIONS as f64,
    })
}

/// Makes `count` sessions one after another, on two threads; each asks for the server that `name` gives, and all have to
/// be stapled or none. Tells how long it took.
pub fn make(
    count: usize,
    port: u16,
    staple: bool,
    name: &(dyn Fn(usize) -> Option<String> + Sync),
) -> anyhow::Result<Duration> {
    let client = Client::new()?;
    let client = &client;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|first| {
                scope.spawn(move || {
                    (first..count)
                        .step_by(2)
                        .try_for_each(|number| client.session(port, staple, name(number).as_deref()))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("client panicked")))
    })?;
    Ok(began.elapsed())
}

/// A CA, a P-256 certificate with its chain, and a good proof for it (openssl CLI).
fn make_certificate(directory: &Path) -> anyhow::Result<()> {
    let script = r#"set -e
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -subj /CN=BenchCA -days 2 -out ca.pem
openssl ecparam -name prime256v1 -genkey -noout -out key.pem
openssl req -new -key key.pem -subj /CN=bench.example -out csr
printf 'subjectAltName=DNS:bench.example\n' > ext
openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -set_serial 4711 -days 2 -extfile ext -out cert.pem
cat cert.pem ca.pem > chain.pem
serial=$(openssl x509 -in cert.pem -noout -serial | cut -d= -f2)
printf 'V\t351231000000Z\t\t%s\tunknown\t/CN=bench.example\n' "$serial" > index
openssl ocsp -issuer ca.pem -cert cert.pem -no_nonce -reqout req
openssl ocsp -index index -rsigner ca.pem -rkey ca.key -CA ca.pem -reqin req -ndays 1 -respout good.der
chmod 644 key.pem good.der
"#;
    let output = Command::new("sh").arg("-c").arg(script).current_dir(directory).output()?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
