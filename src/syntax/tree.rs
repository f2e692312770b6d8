//! The tree of an expandable string.
//!
//! Invariant: a tree holds only names that the language knows; what is known but not supported is in
//! it too, and [`super::Template::unsupported`] lists it.

use super::lookup_type::LookupType;
use bstr::BString;

/// A string with parts to be replaced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The parts, in order.
    pub parts: Vec<Part>,
}

impl Tree {
    /// The text, if there is nothing to replace.
    pub fn literal(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
    /// What is written before anything is replaced: a list's `<;` must stand here.
    pub fn literal_start(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => b"",
        }
    }
}

/// One part of a string.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text that stays as it is.
    Literal(BString),
    /// `$1`
    Capture(u32),
    /// `$name`, `${name}`
    Variable(Variable),
    /// `$h_name:` and kin
    Header(HeaderName),
    /// `${name_1_2:text}`
    Operator(Box<Operator>),
    /// `${name ...}`
    Item(Box<Item>),
}

/// A variable's name, found in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Index in [`super::names::VARIABLE_NAMES`].
    Named(usize),
    /// `$acl_c...`, `$acl_m...`: the name without `acl_`.
    Acl(BString),
    /// `$r_...`: the whole name.
    Router(BString),
}

/// How the text of a header is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderForm {
    /// `$h_`: decoded and translated to `headers_charset`
    Decoded,
    /// `$bh_`: decoded
    Bare,
    /// `$rh_`: as it came
    Raw,
    /// `$lh_`: a list, one item for each header
    List,
}

/// A reference to the headers of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName {
    /// How their text is read.
    pub form: HeaderForm,
    /// The name, in lower case.
    pub name: BString,
}

/// An operator and what it works on.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// From [`super::names::OPERATOR_NAMES`].
    pub name: &'static str,
    /// What was written after the name and an underscore: `1_2`, `mysql`.
    pub suffix: Option<BString>,
    /// The numbers, where the suffix has the form of numbers.
    pub numbers: Vec<i64>,
    /// The text.
    pub text: Tree,
}

/// The two strings of a conditional item, or what stands for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Branches {
    /// None: the item's own text (`true`, `$value`).
    pub yes: Option<Tree>,
    /// The second string.
    pub no: Otherwise,
}

/// What a conditional item gives if its condition is not met.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Otherwise {
    /// Nothing.
    #[default]
    Nothing,
    /// This string.
    Text(Tree),
    /// The whole expansion fails.
    Fail,
}

/// How `${extract` reads its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtractForm {
    /// `key=value` pairs or fields
    Plain,
    /// JSON, strings with their quotes
    Json,
    /// JSON, strings without them
    JsonString,
}

/// An item.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `${if`
    If {
        /// The condition.
        condition: Condition,
        /// Its strings.
        branches: Branches,
    },
    /// `${lookup`
    Lookup {
        /// The type with all that decorates it.
        kind: LookupType,
        /// The key of a single-key type.
        key: Option<Tree>,
        /// The file of a single-key type, else the query.
        data: Tree,
        /// Its strings.
        branches: Branches,
    },
    /// `${extract`: which arguments are strings and which branches depends on the key.
    Extract {
        /// The kind of data.
        form: ExtractForm,
        /// All strings in braces.
        arguments: Vec<Tree>,
        /// `fail` stands at the end.
        fail: bool,
    },
    /// `${listextract`
    ListExtract {
        /// The number.
        number: Tree,
        /// The list.
        list: Tree,
        /// Its strings.
        branches: Branches,
    },
    /// `${certextract`
    CertificateField {
        /// The field with its modifiers.
        field: Tree,
        /// The variable.
        certificate: Tree,
        /// Its strings.
        branches: Branches,
    },
    /// `${env`
    Env {
        /// The name.
        key: Tree,
        /// Its strings.
        branches: Branches,
    },
    /// `${filter`
    Filter {
        /// The list.
        list: Tree,
        /// What an item must meet to stay.
        condition: Condition,
    },
    /// `${map`
    Map {
        /// The list.
        list: Tree,
        /// What becomes of each item.
        text: Tree,
    },
    /// `${reduce`
    Reduce {
        /// The list.
        list: Tree,
        /// First value.
        start: Tree,
        /// The next value.
        text: Tree,
    },
    /// `${sort`
    Sort {
        /// The list.
        list: Tree,
        /// The name of a condition with two arguments.
        comparator: Tree,
        /// What of an item is compared.
        extractor: Tree,
    },
    /// All items whose arguments are just expanded, one by one.
    Call {
        /// From [`super::names::ITEM_NAMES`].
        name: &'static str,
        /// Its arguments.
        arguments: Vec<Tree>,
    },
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `=`, `==`, `eq`
    Equal,
    /// `<`, `lt`
    Less,
    /// `<=`, `le`
    LessOrEqual,
    /// `>`, `gt`
    Greater,
    /// `>=`, `ge`
    GreaterOrEqual,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// `!`
    Not(Box<Condition>),
    /// `and`
    All(Vec<Condition>),
    /// `or`
    Any(Vec<Condition>),
    /// `=`, `<` and so on
    Numbers {
        /// The relation.
        relation: Relation,
        /// Left and right.
        sides: Box<(Tree, Tree)>,
    },
    /// `eq`, `lti` and so on
    Strings {
        /// The relation.
        relation: Relation,
        /// The case of letters does not matter.
        caseless: bool,
        /// Left and right.
        sides: Box<(Tree, Tree)>,
    },
    /// `def:name`
    Defined(Variable),
    /// `def:h_name:`
    HeaderDefined(HeaderName),
    /// `forany`, `forall` and their JSON forms
    Each {
        /// From [`super::names::CONDITION_NAMES`].
        name: &'static str,
        /// The list.
        list: Tree,
        /// What each (or one) item must meet.
        condition: Box<Condition>,
    },
    /// All conditions whose arguments are just expanded. The list of `match_domain` and its kin is a literal.
    Test {
        /// From [`super::names::CONDITION_NAMES`].
        name: &'static str,
        /// Its arguments.
        arguments: Vec<Tree>,
    },
}
