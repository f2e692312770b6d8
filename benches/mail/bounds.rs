//! What a STARTTLS session may cost: with a staple against one without, against a bare GnuTLS server, and with a
//! thousand virtual hosts known against one.
//!
//! Both servers of a comparison run at once; small blocks of sessions alternate between them, and the CPU that the server
//! took is compared block by block. The figure is the median of these ratios, so that what else the machine does
//! falls on both sides alike. Every round has servers of its own, since where memory came to lie is worth a hundredth
//! too. While a bound lies within what the figure may be wrong by, on either side, another round is made.

use super::bare::Bare;
use super::report::{error_of_median, median};
use super::server::{Program, Server, reap};
use super::sessions::{self, make};
use anyhow::{Context, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How a round is cut: sessions in a block, and pairs of blocks.
#[derive(Clone, Copy)]
struct Cut {
    block: usize,
    pairs: usize,
}

/// Both blocks of a pair are over before the rest of the machine does something else.
const FINE: Cut = Cut { block: 10, pairs: 100 };
/// The kernel tells the CPU of processes that ended in ticks of 10 ms, so for a server that forks a block has to be long.
const COARSE: Cut = Cut { block: 100, pairs: 10 };
/// A comparison that is too close to its bound takes at most so many times the rounds that were asked for.
const MOST: usize = 4;
/// Sessions before the first block.
const WARM_UP: usize = 50;
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
    fn block(&self, first: usize, count: usize) -> anyhow::Result<f64> {
        let before = (self.cpu)()?;
        make(count, self.port, self.staple, &|number| (self.name)(first + number))?;
        Ok(((self.cpu)()? - before).as_secs_f64() * 1000.0 / count as f64)
    }
}

fn no_name(_: usize) -> Option<String> {
    None
}

/// A row of the report: the two sides in CPU milliseconds for each session, the ratio, by how much the median of such
/// ratios may be off (two standard errors), and what the ratio may be.
struct Row {
    what: String,
    cost: f64,
    against: f64,
    ratio: f64,
    error: f64,
    bound: Option<f64>,
}

impl Row {
    fn of(what: &str, bound: Option<f64>, pairs: &[(f64, f64)]) -> Self {
        let of = |figure: fn(&(f64, f64)) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
        let ratios = of(|pair| pair.0 / pair.1);
        Self {
            what: what.to_owned(),
            cost: median(&of(|pair| pair.0)),
            against: median(&of(|pair| pair.1)),
            ratio: median(&ratios),
            error: 2.0 * error_of_median(&ratios),
            bound,
        }
    }

    /// Figures that are none miss every bound.
    fn is_missed(&self) -> bool {
        self.bound.is_some_and(|bound| self.ratio.is_nan() || self.ratio > bound)
    }

    fn is_close(&self) -> bool {
        self.bound.is_some_and(|bound| (self.ratio - bound).abs() < self.error)
    }
}

/// The block pairs of one round, between servers that were started for it.
type Round<'a> = &'a dyn Fn() -> anyhow::Result<Vec<(f64, f64)>>;

/// Makes rounds until the figure is clear.
fn compare(what: &str, rounds: usize, bound: Option<f64>, round: Round<'_>) -> anyhow::Result<Row> {
    let mut taken = Vec::new();
    for number in 1..=rounds * MOST {
        eprintln!("{what}: round {number}");
        let these = round()?;
        let ratio = Row::of(what, bound, &these).ratio;
        taken.extend(these);
        let row = Row::of(what, bound, &taken);
        eprintln!("  {ratio:.3}; all rounds: {:.3} +- {:.3}", row.ratio, row.error);
        if number >= rounds && !row.is_close() {
            break;
        }
    }
    Ok(Row::of(what, bound, &taken))
}

/// Compares two sides in pairs of blocks; who comes first alternates.
fn pairs(cut: Cut, side: &Side<'_>, other: &Side<'_>) -> anyhow::Result<Vec<(f64, f64)>> {
    // what is loaded at the first connections is not a session's
    side.block(0, WARM_UP)?;
    other.block(0, WARM_UP)?;
    (0..cut.pairs)
        .map(|number| {
            let first = number * cut.block;
            if number % 2 == 0 {
                Ok((side.block(first, cut.block)?, other.block(first, cut.block)?))
            } else {
                let against = other.block(first, cut.block)?;
                Ok((side.block(first, cut.block)?, against))
            }
        })
        .collect()
}

/// Measures all, prints the table, and fails if a bound is missed.
pub fn measure(programs: &[Program], keys: &Path, rounds: usize) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for program in programs.iter().filter(|_| oxim::tls::OCSP) {
        let what = format!("{}: with a staple, without one", program.name);
        let bound = is_ours(program).then_some(1.05);
        rows.push(compare(&what, rounds, bound, &|| staple_against_none(program, keys))?);
    }
    if oxim::tls::OCSP {
        let what = "a bare GnuTLS server: with a staple, without one";
        rows.push(compare(what, rounds, None, &|| bare_staple_against_none(keys))?);
    }
    for program in programs {
        let what = format!("{}, a bare GnuTLS server", program.name);
        let bound = is_ours(program).then_some(1.3);
        rows.push(compare(&what, rounds, bound, &|| against_bare(program, keys))?);
    }
    let ours = programs.iter().find(|program| is_ours(program)).context("oxim is measured")?;
    eprintln!("making {HOSTS} certificates and proofs");
    make_hosts(keys).context("making the virtual hosts")?;
    let what = format!("{}: {HOSTS} virtual hosts known, one", ours.name);
    rows.push(compare(&what, rounds, Some(1.1), &|| many_hosts_against_one(ours, keys))?);
    print(&rows);
    let missed = rows.iter().filter(|row| row.is_missed()).count();
    ensure!(missed == 0, "{missed} bounds were missed");
    Ok(())
}

fn cut(program: &Program) -> Cut {
    if is_ours(program) { FINE } else { COARSE }
}

fn is_ours(program: &Program) -> bool {
    program.name == "oxim"
}

fn print(rows: &[Row]) {
    let heads = ["this", "that", "ratio", "+-", "bound"];
    println!(
        "\n{:52}{:>8}{:>8}{:>8}{:>7}{:>7}",
        "CPU ms a STARTTLS session", heads[0], heads[1], heads[2], heads[3], heads[4]
    );
    for row in rows {
        print!("{:52}{:>8.3}{:>8.3}{:>8.3}{:>7.3}", row.what, row.cost, row.against, row.ratio, row.error);
        match row.bound {
            Some(bound) => println!("{bound:>7.2}  {}", if row.is_missed() { "MISSED" } else { "ok" }),
            None => println!(),
        }
    }
}

fn staple_against_none(program: &Program, keys: &Path) -> anyhow::Result<Vec<(f64, f64)>> {
    let with = Server::start(program, &sessions::options(keys, true))?;
    let without = Server::start(program, &sessions::options(keys, false))?;
    let taken = pairs(
        cut(program),
        &Side { port: with.port, staple: true, name: &no_name, cpu: &|| with.cpu() },
        &Side { port: without.port, staple: false, name: &no_name, cpu: &|| without.cpu() },
    );
    drop((with, without));
    reap()?;
    taken
}

/// What GnuTLS itself takes for it.
fn bare_staple_against_none(keys: &Path) -> anyhow::Result<Vec<(f64, f64)>> {
    let (with, without) = (Bare::start(keys, true)?, Bare::start(keys, false)?);
    let cpu = super::cpu::of_tree;
    pairs(
        FINE,
        &Side { port: with.port, staple: true, name: &no_name, cpu: &|| cpu(with.pid()) },
        &Side { port: without.port, staple: false, name: &no_name, cpu: &|| cpu(without.pid()) },
    )
}

fn against_bare(program: &Program, keys: &Path) -> anyhow::Result<Vec<(f64, f64)>> {
    let staple = oxim::tls::OCSP;
    let server = Server::start(program, &sessions::options(keys, staple))?;
    let bare = Bare::start(keys, staple)?;
    let taken = pairs(
        cut(program),
        &Side { port: server.port, staple, name: &no_name, cpu: &|| server.cpu() },
        &Side { port: bare.port, staple, name: &no_name, cpu: &|| super::cpu::of_tree(bare.pid()) },
    );
    drop((server, bare));
    reap()?;
    taken
}

fn many_hosts_against_one(program: &Program, keys: &Path) -> anyhow::Result<Vec<(f64, f64)>> {
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
    let taken = pairs(
        cut(program),
        &Side { port: many.port, staple, name: &each, cpu: &|| many.cpu() },
        &Side { port: one.port, staple, name: &first, cpu: &|| one.cpu() },
    );
    drop((many, one));
    reap()?;
    taken
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
