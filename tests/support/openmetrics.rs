//! A strict reader of OpenMetrics 1.0 text, for tests: whatever breaks the format is an error with its line.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A text that was read.
#[derive(Clone, Debug)]
pub struct Numbers(pub Vec<Sample>);

impl Numbers {
    /// The value of the one sample that has this name and these labels among its own.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.find(name, labels);
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0].value
    }

    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
        };
        self.0.iter().filter(has).collect()
    }
}

/// The family that is being read.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    unit: Option<String>,
    helped: bool,
    /// Name and labels of its samples.
    seen: HashSet<(String, BTreeMap<String, String>)>,
}

/// Reads a whole text.
pub fn read(text: &str) -> Result<Numbers, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("the text does not end with # EOF")?;
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("# EOF does not stand on a line of its own".into());
    }
    let (mut families, mut family, mut samples) = (HashSet::new(), Family::default(), Vec::new());
    for (number, line) in body.split_terminator('\n').enumerate() {
        let at = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            let [Some(keyword), Some(name), Some(rest)] = [words.next(), words.next(), words.next()] else {
                return Err(at("no metadata"));
            };
            read_metadata(keyword, name, rest, &mut families, &mut family).map_err(|what| at(&what))?;
        } else {
            let sample = read_sample(line).map_err(|what| at(&what))?;
            check(&sample, &family).map_err(|what| at(&what))?;
            if !family.seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(at("the same labels twice"));
            }
            samples.push(sample);
        }
    }
    Ok(Numbers(samples))
}

fn read_metadata(
    keyword: &str,
    name: &str,
    rest: &str,
    families: &mut HashSet<String>,
    family: &mut Family,
) -> Result<(), String> {
    if keyword == "TYPE" {
        if !is_name(name) || !["counter", "gauge", "info"].contains(&rest) {
            return Err("name or type".into());
        }
        if !families.insert(name.to_owned()) {
            return Err("a family that was there before".into());
        }
        // Samples of the one could be taken for those of the other.
        let with_suffix =
            |name: &str| ["_total", "_info", "_created"].map(|suffix| format!("{name}{suffix}"));
        let clashes = with_suffix(name).iter().any(|longer| families.contains(longer))
            || families.iter().any(|other| with_suffix(other).iter().any(|longer| longer == name));
        if clashes {
            return Err("a family whose samples have another's name".into());
        }
        *family = Family { name: name.to_owned(), kind: rest.to_owned(), ..Family::default() };
        return Ok(());
    }
    if name != family.name || !family.seen.is_empty() {
        return Err("metadata apart from its family".into());
    }
    match keyword {
        "UNIT" if family.unit.is_none() && name.ends_with(&format!("_{rest}")) && family.kind != "info" => {
            family.unit = Some(rest.to_owned());
            Ok(())
        }
        "HELP" if !family.helped => {
            family.helped = true;
            let quoted = format!("{rest}\"");
            let (unescaped, left) = read_escaped(&quoted)?;
            if left.is_empty() && !unescaped.is_empty() { Ok(()) } else { Err("no help".into()) }
        }
        _ => Err("metadata".into()),
    }
}

fn read_sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("name".into());
    }
    let mut labels = BTreeMap::new();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("label")?;
            if !is_name(label) || label.contains(':') {
                return Err(format!("label {label}"));
            }
            let (value, after) = read_escaped(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("label {label} twice"));
            }
            match (after.strip_prefix(','), after.strip_prefix('}')) {
                (Some(after), _) => rest = after,
                (_, Some(after)) => {
                    rest = after;
                    break;
                }
                _ => return Err("labels do not end".into()),
            }
        }
        return finish(name, labels, rest);
    }
    finish(name, labels, rest)
}

fn finish(name: &str, labels: BTreeMap<String, String>, rest: &str) -> Result<Sample, String> {
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let value = value.parse().ok().filter(|_| is_number).ok_or("value")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

fn check(sample: &Sample, family: &Family) -> Result<(), String> {
    let suffix = match family.kind.as_str() {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    if sample.name != format!("{}{suffix}", family.name) {
        return Err("not of the family above".into());
    }
    match family.kind.as_str() {
        "counter" if sample.value < 0.0 => Err("a counter below 0".into()),
        "info" if sample.value != 1.0 => Err("an info that is not 1".into()),
        _ if !family.helped => Err("no help".into()),
        _ => Ok(()),
    }
}

/// Text up to the next quote that stands for itself, and what follows the quote.
fn read_escaped(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("escape".into()),
            },
            c if c.is_control() => return Err("control character".into()),
            c => value.push(c),
        }
    }
    Err("a text does not end".into())
}

fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Asks for the numbers over this connection; the whole answer is checked.
pub fn scrape(mut stream: impl Read + Write) -> Result<Numbers, String> {
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n";
    stream.write_all(request).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {answer:?}"))?;
    let mut lines = head.split("\r\n");
    if lines.next() != Some("HTTP/1.1 200 OK") {
        return Err(format!("answer: {head}"));
    }
    let fields: BTreeMap<String, &str> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    if fields.get("content-type") != Some(&content_type)
        || fields.get("content-length") != Some(&body.len().to_string().as_str())
        || fields.get("connection") != Some(&"close")
    {
        return Err(format!("header: {head}"));
    }
    read(body)
}
