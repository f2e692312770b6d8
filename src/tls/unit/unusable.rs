//! What could not be loaded, for the administrator: the one file of several, which option names it, and why it is of no use.

use super::{FileProblem, UnitError, io_text};
use crate::ocsp::registry::Side;
use crate::ocsp::standing::UnusableFile;
use bstr::{BStr, ByteSlice};

impl UnitError {
    /// The file and what is wrong with it. `former_in_use`: what was there before goes on.
    pub fn unusable(&self, side: Side, former_in_use: bool) -> UnusableFile {
        let certificate = "tls_certificate";
        let (option, file, error) = match self {
            UnitError::CertificateOrKey { certificate: shown, key, problem } => {
                let is_key = problem.path() == key.as_bstr() && key != shown;
                let option = if is_key { "tls_privatekey" } else { certificate };
                let error = match self.is_key_mismatch() {
                    true => format!("{} (tls_certificate is {shown})", problem.reason()),
                    false => problem.reason(),
                };
                (option, problem.path().to_string(), error)
            }
            UnitError::OutOfKeys => {
                ("tls_privatekey", String::new(), "fewer files than in tls_certificate".into())
            }
            UnitError::NoCertificate => (certificate, String::new(), "it names no file".into()),
            UnitError::TooMany(most) => (certificate, String::new(), format!("more than {most} files")),
            UnitError::Trust { option, path, problem } => {
                let error = match problem.path() == path {
                    true => problem.reason(),
                    false => problem.detail(), // one of a directory
                };
                (*option, path.to_string(), error)
            }
            UnitError::DhParameters(error) => ("tls_dhparam", String::new(), error.to_string()),
            UnitError::Library(error) => (certificate, String::new(), error.to_string()),
        };
        UnusableFile { side, option: option.to_owned(), file, error, former_in_use }
    }
}

impl FileProblem {
    /// The file and the reason.
    pub(super) fn detail(&self) -> String {
        format!("{}: {}", self.path(), self.reason())
    }

    fn path(&self) -> &BStr {
        match self {
            FileProblem::Unreadable(path, _)
            | FileProblem::Relative(path)
            | FileProblem::Encrypted(path)
            | FileProblem::Malformed(path, _)
            | FileProblem::List(path, _)
            | FileProblem::Nothing(path)
            | FileProblem::NoModules(path)
            | FileProblem::NoTokens(path) => path.as_bstr(),
        }
    }

    fn reason(&self) -> String {
        match self {
            FileProblem::Unreadable(_, error) => io_text(error),
            FileProblem::Relative(path) if path == "pkcs11" => {
                "not an absolute path; in a list, each colon of a URL is doubled".into()
            }
            FileProblem::NoModules(_) => format!("{self}: set it, or name a file in place of the token"),
            FileProblem::NoTokens(_) => format!("{self}: name a file in place of the token"),
            FileProblem::Relative(_) => "not an absolute path".to_owned(),
            FileProblem::Encrypted(_) => "the private key is encrypted with a password".to_owned(),
            FileProblem::Malformed(_, error) => error.to_string(),
            FileProblem::List(_, reason) => reason.clone(),
            FileProblem::Nothing(_) => "no certificate in it".to_owned(),
        }
    }
}
