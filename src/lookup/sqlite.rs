//! `sqlite`: a statement to a data base in a file.
//!
//! Specification: section "More about SQLite". One column of a row is its text; several are `name=value`, quoted
//! where they must be; rows are joined by newlines. The file comes from `file=`, from the option
//! `sqlite_dbfile`, or stands before the statement.

use super::LookupError;
use crate::expand::Context;
use crate::syntax::LookupType;
use crate::text::Value;
use bstr::{BString, ByteSlice};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long to wait for a lock, as Exim does unless told otherwise.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes: a statement without a condition must not fill memory.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Obeys the statements; none: they gave no row.
pub fn find(context: &Context, kind: &LookupType, query: &Value) -> Result<Option<Value>, LookupError> {
    let (file, statements) = file_of(context, kind, query)?;
    if !file.is_absolute() {
        return Err(LookupError::Failed("absolute file name expected for \"sqlite\" lookup".into()));
    }
    // A file that is not there is an error, not a new data base.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&file, flags).map_err(|error| failure(&error))?;
    // As a pragma: rusqlite's own call needs a newer libsqlite3 than Debian 12 has.
    let wait = LOCK_TIMEOUT.as_millis() as i64;
    connection.pragma_update(None, "busy_timeout", wait).map_err(|error| failure(&error))?;
    let text =
        statements.to_str().map_err(|_| LookupError::Failed("sqlite: statement is not UTF-8".into()))?;
    let rows = run(&connection, text)?;
    Ok((!rows.is_empty()).then(|| Value::clean(bstr::join("\n", rows))))
}

fn failure(error: &rusqlite::Error) -> LookupError {
    LookupError::Defer(format!("sqlite: {error}"))
}

/// The file and the statements.
fn file_of(context: &Context, kind: &LookupType, query: &Value) -> Result<(PathBuf, BString), LookupError> {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    if let Some(file) = kind.option("file") {
        return Ok((path(file), query.bytes().to_owned()));
    }
    let main = &context.globals.main;
    let option = main.def("sqlite_dbfile").and_then(|_| main.plain("sqlite_dbfile"));
    if let Some(file) = option.filter(|file| !file.is_empty() && !query.bytes().starts_with(b"/")) {
        return Ok((path(&file), query.bytes().to_owned()));
    }
    let text = query.bytes().trim_start();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (file, statements) = text.split_at(end);
    if query.is_tainted() {
        let text = file.as_bstr();
        return Err(LookupError::Failed(format!("Tainted filename for search: '{text}'")));
    }
    Ok((path(file), statements.trim_start().into()))
}

/// The rows of all statements.
fn run(connection: &Connection, statements: &str) -> Result<Vec<BString>, LookupError> {
    let mut rows_text = Vec::new();
    let mut length = 0;
    let mut batch = rusqlite::Batch::new(connection, statements);
    while let Some(mut statement) = batch.next().map_err(|error| failure(&error))? {
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([]).map_err(|error| failure(&error))?;
        while let Some(row) = rows.next().map_err(|error| failure(&error))? {
            let mut text = BString::default();
            for (index, name) in names.iter().enumerate() {
                let value = shown(row.get_ref(index).map_err(|error| failure(&error))?);
                if names.len() == 1 {
                    text = value;
                } else {
                    push_named(&mut text, name, &value);
                }
            }
            length += text.len();
            if length > MAX_ANSWER {
                return Err(LookupError::Failed("sqlite: answer is too long".into()));
            }
            rows_text.push(text);
        }
    }
    Ok(rows_text)
}

fn shown(value: ValueRef) -> BString {
    match value {
        ValueRef::Null => "<NULL>".into(),
        ValueRef::Integer(number) => number.to_string().into(),
        ValueRef::Real(number) => format!("{number:?}").into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.into(),
    }
}

/// `name=value `, the value quoted if it is empty, has white space or begins with a quote.
fn push_named(out: &mut BString, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    let plain = !value.is_empty() && !value.iter().any(u8::is_ascii_whitespace) && value[0] != b'"';
    if plain {
        out.extend_from_slice(value);
    } else {
        out.push(b'"');
        for byte in value {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out.push(b' ');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rows(statements: &str) -> Vec<String> {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("create table u(name, home, n); insert into u values('joe','/home/joe',1),('jane','a \"q\" x',2),('nul',null,3),('e','',4);")
            .unwrap();
        run(&connection, statements).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_are_written_as_exim_writes_them() {
        assert_eq!(rows("select home from u where n=1"), ["/home/joe"]);
        assert_eq!(rows("select name,home,n from u where n=1"), ["name=joe home=/home/joe n=1 "]);
        assert_eq!(rows("select name,home from u where n=2"), ["name=jane home=\"a \\\"q\\\" x\" "]);
        assert_eq!(rows("select home from u where n=3"), ["<NULL>"]);
        assert_eq!(rows("select name,home from u where n=4"), ["name=e home=\"\" "]);
        assert_eq!(rows("select name from u where n=9"), [""; 0]);
        assert_eq!(rows("select 1; select 2"), ["1", "2"]);
    }

    #[test]
    fn a_wrong_statement_is_an_error() {
        let connection = Connection::open_in_memory().unwrap();
        assert!(matches!(run(&connection, "select nosuch"), Err(LookupError::Defer(_))));
        let missing = Connection::open_with_flags(Path::new("/nonexist"), OpenFlags::SQLITE_OPEN_READ_WRITE);
        assert!(missing.is_err());
    }
}
