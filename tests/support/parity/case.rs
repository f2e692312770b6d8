//! One parity case as it is written: a title, then sections that begin with `=== `.
//!
//! The sections are described in `tests/parity/README.md`. Parsing does no I/O.

/// Who runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An ordinary user without any rights in Exim.
    User,
    /// root (without root: the user who runs the tests).
    Root,
}

/// What a section asks for; `Step::body` belongs to it.
#[derive(Debug, Clone)]
pub enum Action {
    /// Writes a file below the case's directory: name and mode.
    File { name: String, mode: u32 },
    /// Calls the program with these arguments and the body as standard input.
    Call { caller: Caller, name: Option<String>, bare: bool, arguments: Vec<String> },
    /// Starts a daemon in the foreground with these further arguments and waits until it listens.
    Daemon { arguments: Vec<String> },
    /// Stops the daemon and waits for its end.
    Stop,
    /// Talks SMTP to the daemon; the body holds the client's lines.
    Smtp { options: Vec<String> },
    /// Talks SMTP inside TLS, through `openssl s_client` with these arguments.
    Tls { arguments: Vec<String> },
    /// Starts a scripted SMTP server for the program's deliveries.
    Sink,
    /// Starts a name server that the program asks, with these words as `options` of resolv.conf.
    Dns { options: Vec<String> },
    /// Waits until the main log holds this text.
    WaitMainlog { text: String, count: usize },
    /// Runs the body with `sh -e` as root; nothing is recorded.
    Shell,
    /// Runs the body with `sh -e` as root and records what it prints.
    Show,
}

/// One section of a case.
#[derive(Debug, Clone)]
pub struct Step {
    /// The section's line without `=== `; names the step in the expectation.
    pub title: String,
    pub action: Action,
    pub body: String,
}

/// Where oxim differs from what exim4 4.96 was recorded to do, and why.
#[derive(Debug, Clone)]
pub struct Difference {
    pub reason: String,
    /// Consecutive lines of the recording, and the lines that stand for them with oxim.
    pub recorded: Vec<String>,
    pub ours: Vec<String>,
}

/// A whole case.
#[derive(Debug, Clone)]
pub struct Case {
    pub title: String,
    /// `needs: root`: cannot be shown by one user alone.
    pub needs_root: bool,
    /// `modes: setuid` limits a case to one mode; empty: all.
    pub modes: Vec<String>,
    /// `sort: mainlog`: lines come from processes at the same time, their order means nothing.
    pub sort_mainlog: bool,
    pub steps: Vec<Step>,
    pub differences: Vec<Difference>,
}

/// Parses the text of a case; the error says what is wrong in words.
pub fn parse(text: &str) -> Result<Case, String> {
    let mut case = Case {
        title: String::new(),
        needs_root: false,
        modes: Vec::new(),
        sort_mainlog: false,
        steps: Vec::new(),
        differences: Vec::new(),
    };
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(title) = line.strip_prefix("=== ") {
            sections.push((title.trim().to_owned(), String::new()));
        } else if let Some((_, body)) = sections.last_mut() {
            body.push_str(line);
        } else {
            head_line(&mut case, line.trim())?;
        }
    }
    if case.title.is_empty() {
        return Err("the case has no title in its first line".into());
    }
    for (title, body) in sections {
        if let Some(reason) = title.strip_prefix("differs ") {
            case.differences.push(difference(reason, &body)?);
        } else {
            let action = action(&title)?;
            case.steps.push(Step { title, action, body });
        }
    }
    Ok(case)
}

fn head_line(case: &mut Case, line: &str) -> Result<(), String> {
    match line.split_once(':') {
        _ if case.title.is_empty() => case.title = line.to_owned(),
        Some(("needs", what)) if what.trim() == "root" => case.needs_root = true,
        Some(("modes", modes)) => case.modes = modes.split_whitespace().map(str::to_owned).collect(),
        Some(("sort", what)) if what.trim() == "mainlog" => case.sort_mainlog = true,
        Some(("needs" | "sort", _)) => return Err(format!("unknown setting: {line}")),
        _ => {}
    }
    Ok(())
}

fn difference(reason: &str, body: &str) -> Result<Difference, String> {
    let mut difference = Difference { reason: reason.to_owned(), recorded: Vec::new(), ours: Vec::new() };
    for line in body.lines().filter(|l| !l.is_empty()) {
        match line.split_at(1) {
            ("-", rest) => difference.recorded.push(rest.to_owned()),
            ("+", rest) => difference.ours.push(rest.to_owned()),
            _ => return Err(format!("a line of a difference begins with - or +: {line}")),
        }
    }
    if difference.recorded.is_empty() {
        return Err(format!("the difference \"{reason}\" names no recorded line"));
    }
    Ok(difference)
}

fn action(title: &str) -> Result<Action, String> {
    let words = shell_words(title)?;
    let rest = |n: usize| words.iter().skip(n).cloned().collect::<Vec<_>>();
    match words.first().map(String::as_str).unwrap_or_default() {
        "file" => {
            let name = words.get(1).cloned().ok_or("file needs a name")?;
            let mode = words.get(2).map_or(Ok(0o644), |m| u32::from_str_radix(m, 8));
            Ok(Action::File { name, mode: mode.map_err(|e| e.to_string())? })
        }
        "root" => call(Caller::Root, &rest(1)),
        "call" | "as" | "bare" => call(Caller::User, &words),
        "daemon" => Ok(Action::Daemon { arguments: rest(1) }),
        "stop" => Ok(Action::Stop),
        "smtp" => Ok(Action::Smtp { options: rest(1) }),
        "tls" => Ok(Action::Tls { arguments: rest(1) }),
        "sink" => Ok(Action::Sink),
        "dns" => Ok(Action::Dns { options: rest(1) }),
        "wait" => wait(&words),
        "shell" => Ok(Action::Shell),
        "show" => Ok(Action::Show),
        other => Err(format!("unknown section: {other}")),
    }
}

/// `call ARGS`, `bare ARGS` (no configuration is named), `as mailq call ARGS`.
fn call(caller: Caller, words: &[String]) -> Result<Action, String> {
    match words.first().map(String::as_str) {
        Some("as") => match call(caller, words.get(2..).unwrap_or_default())? {
            Action::Call { caller, bare, arguments, .. } => {
                Ok(Action::Call { caller, bare, arguments, name: words.get(1).cloned() })
            }
            other => Ok(other),
        },
        Some(word @ ("call" | "bare")) => {
            Ok(Action::Call { caller, name: None, bare: word == "bare", arguments: words[1..].to_vec() })
        }
        _ => Err("expected call or bare".into()),
    }
}

/// `wait mainlog TEXT` or `wait mainlog 3 times TEXT`.
fn wait(words: &[String]) -> Result<Action, String> {
    if words.get(1).map(String::as_str) != Some("mainlog") || words.len() < 3 {
        return Err("expected: wait mainlog TEXT".into());
    }
    if words.get(3).map(String::as_str) == Some("times") {
        let count = words[2].parse().map_err(|_| format!("not a number: {}", words[2]))?;
        return Ok(Action::WaitMainlog { text: words[4..].join(" "), count });
    }
    Ok(Action::WaitMainlog { text: words[2..].join(" "), count: 1 })
}

/// Splits a line into words as a shell does: white space, 'single' and "double" quotes.
pub fn shell_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed: {line}"));
    }
    words.extend(word);
    Ok(words)
}
