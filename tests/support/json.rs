//! A strict reader of JSON (RFC 8259), for tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    pub fn get(&self, name: &str) -> &Json {
        match self {
            Self::Object(members) => members.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")),
            other => panic!("no object: {other:?}"),
        }
    }
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("no text: {other:?}"),
        }
    }
    pub fn list(&self) -> &[Json] {
        match self {
            Self::List(list) => list,
            other => panic!("no list: {other:?}"),
        }
    }
}

/// Reads a whole text.
pub fn read(text: &str) -> Result<Json, String> {
    let mut reader = Reader { rest: text };
    let value = reader.value()?;
    reader.blanks();
    if reader.rest.is_empty() { Ok(value) } else { Err(format!("more after the value: {}", reader.rest)) }
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn need(&mut self, word: &str) -> Result<(), String> {
        self.blanks();
        if self.take(word) { Ok(()) } else { Err(format!("no {word} at: {}", self.rest)) }
    }

    fn value(&mut self) -> Result<Json, String> {
        self.blanks();
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))]
        {
            if self.take(word) {
                return Ok(value);
            }
        }
        match self.rest.chars().next() {
            Some('"') => self.text().map(Json::Text),
            Some('[') => self.several('[', ']', Self::value).map(Json::List),
            Some('{') => {
                let members = self.several('{', '}', |reader| {
                    reader.blanks();
                    let name = reader.text()?;
                    reader.need(":")?;
                    Ok((name, reader.value()?))
                })?;
                let count = members.len();
                let members: BTreeMap<String, Json> = members.into_iter().collect();
                if members.len() == count { Ok(Json::Object(members)) } else { Err("a name twice".into()) }
            }
            Some('-' | '0'..='9') => self.number(),
            _ => Err(format!("no value at: {}", self.rest)),
        }
    }

    fn number(&mut self) -> Result<Json, String> {
        let end =
            self.rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        let digits = number.trim_start_matches('-');
        if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") {
            return Err(format!("number {number}"));
        }
        number.parse().map(Json::Number).map_err(|_| format!("number {number}"))
    }

    fn text(&mut self) -> Result<String, String> {
        if !self.take("\"") {
            return Err(format!("no text at: {}", self.rest));
        }
        let mut text = String::new();
        loop {
            let c = self.rest.chars().next().ok_or("a text does not end")?;
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                c if u32::from(c) < 0x20 => return Err("a control character in a text".into()),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let c = self.rest.chars().next().ok_or("escape")?;
        self.rest = &self.rest[c.len_utf8()..];
        Ok(match c {
            '"' | '\\' | '/' => c,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'u' => {
                let digits = self.rest.get(..4).ok_or("escape")?;
                self.rest = &self.rest[4..];
                u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).ok_or("escape")?
            }
            _ => return Err(format!("escape {c}")),
        })
    }

    fn several<T>(
        &mut self,
        open: char,
        close: char,
        one: impl Fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        self.need(&open.to_string())?;
        let mut found = Vec::new();
        self.blanks();
        if self.take(&close.to_string()) {
            return Ok(found);
        }
        loop {
            found.push(one(self)?);
            self.blanks();
            if self.take(&close.to_string()) {
                return Ok(found);
            }
            self.need(",")?;
        }
    }
}
