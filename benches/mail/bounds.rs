//! What a STARTTLS session may cost: with a staple against one without, against a bare GnuTLS server, and with a
//! thousand virtual hosts known against one.
//!
//! Both servers of a comparison run at once; blocks of sessions alternate between them, and the CPU that the server took
//! is compared block by block. The figure is the median of these ratios, so that what else the machine does
//! falls on both sides alike.

use super::bare::Bare;
use super::report::median;
use super::server::{Program, Server, reap};
use super::sessions::{self, make};
use anyhow::{Context, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Sessions in a block.
const BLOCK: usize = 100;
/// Blocks of each side for a round of `make bench`.
const BLOCKS: usize = 7;
/// Virtual hosts.
const HOSTS: usize = 1000;

/// One side of a comparison.
struct Side<'a> {
    port: u16,
    staple: bool,
    /// The server that a session asks for.
    name: &'a (dyn Fn(usize) -> Option<String> + Sync),
    cpu: &'a dyn Fn() -> anyhow::Result<Duration>,
}

impl Side<'_> {
    /// CPU milliseconds of one session, over a block.
    fn block(&self, first: usize) -> anyhow::Result<f64> {
        let before = (self.cpu)()?;
        make(BLOCK, self.port, self.staple, &|number| (self.name)(first + number))?;
        Ok(((self.cpu)()? - before).as_secs_f64() * 1000.0 / BLOCK as f64)
    }
}

fn no_name(_: usize) -> Option<String> {
    None
}

/// A row of the report: the two sides in CPU milliseconds for each session, the ratio, and what it may be.
struct Row {
    what: String,
    cost: f64,
    against: f64,
    ratio: f64,
    bound: Option<f64>,
}

/// Compares two sides in alternating blocks.
fn pairs(
    what: &str,
    blocks: usize,
    bound: Option<f64>,
    side: &Side<'_>,
    other: &Side<'_>,
) -> anyhow::Result<Row> {
    eprintln!("{what}: {blocks} pairs of {BLOCK} sessions");
    // what is loaded at the first connection is not a session's
    side.block(0)?;
    other.block(0)?;
    let mut taken = Vec::new();
    for number in 1..=blocks {
        taken.push((side.block(number * BLOCK)?, other.block(number * BLOCK)?));
    }
    let of = |figure: fn(&(f64, f64)) -> f64| median(&taken.iter().map(figure).collect::<Vec<_>>());
    let (cost, against, ratio) = (of(|pair| pair.0), of(|pair| pair.1), of(|pair| pair.0 / pair.1));
    Ok(Row { what: what.to_owned(), cost, against, ratio, bound })
}

/// Measures all, prints the table, and fails if a bound is missed.
pub fn measure(programs: &[Program], keys: &Path, rounds: usize) -> anyhow::Result<()> {
    let blocks = rounds * BLOCKS;
    let mut rows = Vec::new();
    for program in programs.iter().filter(|_| oxim::tls::OCSP) {
        let bound = is_ours(program).then_some(1.05);
        rows.push(staple_against_none(program, keys, blocks, bound)?);
    }
    if oxim::tls::OCSP {
        rows.push(bare_staple_against_none(keys, blocks)?);
    }
    for program in programs {
        let bound = is_ours(program).then_some(1.3);
        rows.push(against_bare(program, keys, blocks, bound)?);
    }
    let ours = programs.iter().find(|program| is_ours(program)).context("oxim is measured")?;
    rows.push(many_hosts_against_one(ours, keys, blocks, Some(1.1))?);
    print(&rows);
    let missed = rows.iter().filter(|row| row.bound.is_some_and(|bound| row.ratio > bound)).count();
    ensure!(missed == 0, "{missed} bounds were missed");
    Ok(())
}

fn is_ours(program: &Program) -> bool {
    program.name == "oxim"
}

fn print(rows: &[Row]) {
    println!("\n{:58}{:>10}{:>10}{:>8}{:>8}", "CPU ms a STARTTLS session", "this", "that", "ratio", "bound");
    for row in rows {
        print!("{:58}{:>10.3}{:>10.3}{:>8.3}", row.what, row.cost, row.against, row.ratio);
        match row.bound {
            Some(bound) => println!("{bound:>8.2}  {}", if row.ratio > bound { "MISSED" } else { "ok" }),
            None => println!(),
        }
    }
}

fn staple_against_none(
    program: &Program,
    keys: &Path,
    blocks: usize,
    bound: Option<f64>,
) -> anyhow::Result<Row> {
    let with = Server::start(program, &sessions::options(keys, true))?;
    let without = Server::start(program, &sessions::options(keys, false))?;
    let row = pairs(
        &format!("{}: with a staple, without one", program.name),
        blocks,
        bound,
        &Side { port: with.port, staple: true, name: &no_name, cpu: &|| with.cpu() },
        &Side { port: without.port, staple: false, name: &no_name, cpu: &|| without.cpu() },
    );
    drop((with, without));
    reap()?;
    row
}

/// What GnuTLS itself takes for it.
fn bare_staple_against_none(keys: &Path, blocks: usize) -> anyhow::Result<Row> {
    let (with, without) = (Bare::start(keys, true)?, Bare::start(keys, false)?);
    let cpu = super::cpu::of_tree;
    pairs(
        "a bare GnuTLS server: with a staple, without one",
        blocks,
        None,
        &Side { port: with.port, staple: true, name: &no_name, cpu: &|| cpu(with.pid()) },
        &Side { port: without.port, staple: false, name: &no_name, cpu: &|| cpu(without.pid()) },
    )
}

fn against_bare(program: &Program, keys: &Path, blocks: usize, bound: Option<f64>) -> anyhow::Result<Row> {
    let staple = oxim::tls::OCSP;
    let server = Server::start(program, &sessions::options(keys, staple))?;
    let bare = Bare::start(keys, staple)?;
    let row = pairs(
        &format!("{}, a bare GnuTLS server", program.name),
        blocks,
        bound,
        &Side { port: server.port, staple, name: &no_name, cpu: &|| server.cpu() },
        &Side { port: bare.port, staple, name: &no_name, cpu: &|| super::cpu::of_tree(bare.pid()) },
    );
    drop((server, bare));
    reap()?;
    row
}

fn many_hosts_against_one(
    program: &Program,
    keys: &Path,
    blocks: usize,
    bound: Option<f64>,
) -> anyhow::Result<Row> {
    eprintln!("making {HOSTS} certificates and proofs");
    make_hosts(keys).context("making the virtual hosts")?;
    let staple = oxim::tls::OCSP;
    let here = keys.display();
    let mut extra = format!(
        "tls_certificate = ${{if def:tls_in_sni {{{here}/hosts/$tls_in_sni.pem}}{{{here}/chain.pem}}}}\n\
         tls_privatekey = {here}/key.pem\n"
    );
    if staple {
        extra.push_str(&format!(
            "tls_ocsp_file = ${{if def:tls_in_sni {{{here}/hosts/$tls_in_sni.der}}{{{here}/good.der}}}}\n"
        ));
    }
    let many = Server::start(program, &extra)?;
    let one = Server::start(program, &extra)?;
    let each = |number: usize| Some(format!("host{}.example", number % HOSTS));
    let first = |_: usize| Some("host0.example".to_owned());
    eprintln!("asking for each of them once");
    make(HOSTS, many.port, staple, &each)?;
    let row = pairs(
        &format!("{}: {HOSTS} virtual hosts known, one", program.name),
        blocks,
        bound,
        &Side { port: many.port, staple, name: &each, cpu: &|| many.cpu() },
        &Side { port: one.port, staple, name: &first, cpu: &|| one.cpu() },
    );
    drop((many, one));
    reap()?;
    row
}

/// `hosts/hostN.example.pem` and `.der`: a certificate with a serial number of its own, and a good proof of it.
fn make_hosts(keys: &Path) -> anyhow::Result<()> {
    let script = r#"set -e
mkdir -p hosts
openssl req -new -key key.pem -subj /CN=host.example -out hosts/csr
i=0
while [ $i -lt $1 ]; do
    printf 'V\t351231000000Z\t\t%08X\tunknown\t/CN=host%s\n' $((0x1000000 + i)) $i
    i=$((i + 1))
done > hosts/index
one() {
    name=hosts/host$1.example serial=$(printf 0x%08X $((0x1000000 + $1)))
    openssl x509 -req -in hosts/csr -CA ca.pem -CAkey ca.key -set_serial $serial -days 2 -out $name.leaf 2>/dev/null
    cat $name.leaf ca.pem > $name.pem
    openssl ocsp -index hosts/index -rsigner ca.pem -rkey ca.key -CA ca.pem -issuer ca.pem -serial $serial \
        -reqout $name.req -no_nonce 2>/dev/null
    openssl ocsp -index hosts/index -rsigner ca.pem -rkey ca.key -CA ca.pem -reqin $name.req -ndays 1 \
        -respout $name.der >/dev/null 2>&1
    chmod 644 $name.der
}
half() { i=$1; while [ $i -lt $2 ]; do one $i; i=$((i + 2)); done; }
half 0 $1 &
half 1 $1
wait $!
"#;
    let output =
        Command::new("sh").args(["-c", script, "sh", &HOSTS.to_string()]).current_dir(keys).output()?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
