//! What TLS has to say to the administrator; the caller writes it where it belongs.

use bstr::BString;

/// Who should hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The main log.
    Main,
    /// The main log and the panic log: somebody should do something.
    Panic,
    /// Debugging output.
    Debug,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who should hear of it.
    pub audience: Audience,
    /// The line, without date, peer or message id.
    pub text: BString,
}

/// Takes notices.
pub type Notify<'a> = &'a (dyn Fn(Notice) + 'a);

impl Notice {
    /// For the main log.
    pub fn main(text: impl Into<BString>) -> Self {
        Self { audience: Audience::Main, text: text.into() }
    }
    /// For the panic log too.
    pub fn panic(text: impl Into<BString>) -> Self {
        Self { audience: Audience::Panic, text: text.into() }
    }
}
