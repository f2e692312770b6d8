//! What is masked before two runs are compared: the closed list of DESIGN.md section 7.
//!
//! Message ids in both forms (numbered by first appearance, so that "the same message" is still
//! checked), times, process ids, ports, the product's name and version, and what is counted over
//! those (sizes). Nothing else.

use pcre2::bytes::{Captures, Regex, RegexBuilder};

/// Masks one case's texts; the numbers of message ids hold for all texts of the case.
pub struct Normaliser {
    /// Literal texts of this run and the placeholders that stand for them (directory, ports, users).
    literals: Vec<(String, String)>,
    ids: Vec<String>,
    id: Regex,
    masks: Vec<(Regex, &'static str)>,
}

/// Pattern and what stands in its place.
const MASKS: &[(&str, &str)] = &[
    // product name and version
    (r"\b(?:Exim (?:4\.\d+(?:\.\d+)?|\$version_number)|oxim \d+\.\d+\.\d+(?:-[a-z0-9.]+)?)", "@MAILER@"),
    (r"\b(?:exim 4\.\d+(?:\.\d+)?)(?= daemon)", "@MAILER@"),
    (r"\b(?:Exim|oxim)(?= configuration error| is already| attempting|: )", "@NAME@"),
    // times
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: [+-]\d{4})?", "@T@"),
    (r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), +\d+ [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "@D@"),
    (r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}", "@D@"),
    (r"\b(QT|DT|RT|D)=(?:\d+[wdhms]|\d*\.\d+s)+", "$1=@t@"),
    (r"(?m)^\d{10} (?=\d+$)", "@T@ "),
    (r"(?m)^-received_time_usec \.\d+$", "-received_time_usec @t@"),
    (r"(?m)^-received_time_complete \d+\.\d+$", "-received_time_complete @t@"),
    (r"(?m)^-frozen \d{10}$", "-frozen @T@"),
    (r"\b\d{10}-eximdsn-\d+", "@T@-eximdsn-@P@"),
    // -bp: age and size in front of the id
    (r"(?m)^((?:out\| )?) *\d+[mhd] +[\d.]+[KM]? (?=@M)", "$1@t@ @S@ "),
    // process ids
    (r"\bpid=\d+", "pid=@P@"),
    (r"\bqueue run pid \d+", "queue run pid @P@"),
    // ports
    (r"(?<=\]):(?:[1-9]\d{3,4})\b", ":@p@"),
    // sizes: they count the above
    (r"\b(S|SIZE)=\d+", "$1=@S@"),
    (r"(?m)^\d{3}(?=[PI] (?:Received:|Message-I))", "@S@"),
    (r"(?m)^\d{3}(?=  References: <E@M)", "@S@"),
    (r"(?m)^\d{3}(?=  Content-Type: multipart/report;.* boundary=@T@-eximdsn)", "@S@"),
    (
        r"(?m)^-max_received_linelength \d+$(?=(?:\n(?!=== ).*)*\n@S@  Content-Type: multipart/report;)",
        "-max_received_linelength @S@",
    ),
];

impl Normaliser {
    /// `literals`: text of this run, placeholder; the longest are replaced first.
    pub fn new(mut literals: Vec<(String, String)>) -> Normaliser {
        literals.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let regex =
            |pattern: &str| RegexBuilder::new().build(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        Normaliser {
            literals,
            ids: Vec::new(),
            id: regex(
                r"\b(?:E?)([12][0-9A-Za-z]{5}-(?:[0-9A-Za-z]{11}-[0-9A-Za-z]{4}|[0-9A-Za-z]{6}-[0-9A-Za-z]{2}))(?![0-9A-Za-z])",
            ),
            masks: MASKS.iter().map(|(pattern, mask)| (regex(pattern), *mask)).collect(),
        }
    }

    /// The text with everything of the list masked.
    pub fn apply(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (literal, placeholder) in &self.literals {
            text = match literal.bytes().all(|byte| byte.is_ascii_digit()) {
                true => replace(&port(literal), &text, |_| placeholder.clone()),
                false => text.replace(literal, placeholder),
            };
        }
        text = self.number_ids(&text);
        for (regex, mask) in &self.masks {
            text = replace(regex, &text, |found| {
                let group = found.get(1).map_or("", |m| to_str(m.as_bytes()));
                mask.replace("$1", group)
            });
        }
        text
    }

    fn number_ids(&mut self, text: &str) -> String {
        let ids = &mut self.ids;
        replace(&self.id, text, |found| {
            let whole = to_str(&found[0]);
            let id = to_str(&found[1]);
            let number = ids.iter().position(|known| known == id).unwrap_or_else(|| {
                ids.push(id.to_owned());
                ids.len() - 1
            });
            let prefix = &whole[..whole.len() - id.len()];
            format!("{prefix}@M{}@", number + 1)
        })
    }
}

/// A port as a number of its own: not a part of a time, nor a process id that happens to be the same.
fn port(digits: &str) -> Regex {
    let pattern = format!(r"(?<!\d)(?<!pid=){digits}(?!\d)");
    RegexBuilder::new().build(&pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"))
}

/// Share of the text, in percent, that is masks.
pub fn masked_percent(text: &str) -> usize {
    let mask = RegexBuilder::new().build(r"@(?:M\d+|MAILER|T|D|t|P|p|S)@").unwrap_or_else(|e| panic!("{e}"));
    let masked: usize = mask.find_iter(text.as_bytes()).flatten().map(|m| m.end() - m.start()).sum();
    masked * 100 / text.len().max(1)
}

fn replace(regex: &Regex, text: &str, mut with: impl FnMut(&Captures) -> String) -> String {
    let mut result = String::with_capacity(text.len());
    let mut last = 0;
    for found in regex.captures_iter(text.as_bytes()).flatten() {
        let Some(whole) = found.get(0) else { continue };
        result.push_str(&text[last..whole.start()]);
        result.push_str(&with(&found));
        last = whole.end();
    }
    result.push_str(&text[last..]);
    result
}

fn to_str(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("?")
}
