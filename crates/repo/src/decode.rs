//! Reads typed values out of nodes, and collects every mistake on the way instead of stopping at the first.
//!
//! A reading function gives `None` when it has reported why.
//!
//! Not here: which fields an object has ([`crate::definitions`]) and what objects say of each other
//! ([`crate::checks`]).

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use vintner_core::{ByteSize, NameError, Ttl, nearest::nearest};

use crate::{
    code,
    diagnostic::Diagnostic,
    expand::{self, Env, Reason},
    node::{Meaning, Node},
    place::{Place, SourceFile, Span},
    written::Written,
};

/// A field that a mapping may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    /// A value as a user could write it, for the help of a diagnostic.
    pub(crate) example: &'static str,
}

/// A field that must be there.
pub(crate) const fn required(name: &'static str, example: &'static str) -> Field {
    Field {
        name,
        required: true,
        example,
    }
}

/// A field that may be there.
pub(crate) const fn optional(name: &'static str, example: &'static str) -> Field {
    Field {
        name,
        required: false,
        example,
    }
}

/// A value, what it is the value of, and where to point at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'n> {
    pub(crate) node: &'n Node,
    pub(crate) subject: Subject<'n>,
    /// Its key, for values that are nothing and so stand nowhere.
    key: Option<&'n Node>,
    required: bool,
    example: &'n str,
}

/// What a value is the value of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'n> {
    /// A field.
    Field(&'n str),
    /// An element of the list that is this field.
    Element(&'n str),
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "`{name}`"),
            Self::Element(name) => write!(f, "an element of `{name}`"),
        }
    }
}

impl<'n> Given<'n> {
    /// Its span, or that of its key when it is nothing.
    pub(crate) fn span(&self) -> Span {
        match self.key {
            Some(key) if self.node.span.start == self.node.span.end => key.span,
            _ => self.node.span,
        }
    }
}

/// A mapping whose fields are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'n> {
    node: &'n Node,
    fields: &'static [Field],
}

impl<'n> Object<'n> {
    /// The value of a field, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<Given<'n>> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        let (key, node) = self.node.entry(name)?;
        Some(Given {
            node,
            subject: Subject::Field(field.name),
            key: Some(key),
            required: field.required,
            example: field.example,
        })
    }
}

/// One entry of a mapping.
#[derive(Clone, Copy, Debug)]
struct Entry<'n> {
    key: &'n Node,
    name: &'n str,
    value: &'n Node,
}

/// What reads one file.
pub(crate) struct Reader<'a> {
    pub(crate) file: &'a Arc<SourceFile>,
    pub(crate) env: &'a Env<'a>,
    pub(crate) found: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a Arc<SourceFile>, env: &'a Env<'a>) -> Self {
        Self {
            file,
            env,
            found: Vec::new(),
        }
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        Place::new(self.file, span)
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// A mapping with these fields that is the value of another. Reports as [`Self::fields_of`].
    pub(crate) fn object<'n>(
        &mut self,
        given: Given<'n>,
        noun: &str,
        fields: &'static [Field],
    ) -> Option<Object<'n>> {
        self.something(given)?;
        if given.node.entries().is_none() {
            return self.wrong_type(given, "a mapping");
        }
        let at = given.key.map_or(given.node.span, |key| key.span);
        self.fields_of(given.node, noun, fields, at)
    }

    /// A mapping with these fields. Reports those that are twice, unknown or missing; a missing one at `at`.
    pub(crate) fn fields_of<'n>(
        &mut self,
        node: &'n Node,
        noun: &str,
        fields: &'static [Field],
        at: Span,
    ) -> Option<Object<'n>> {
        let entries = self.entries(node, noun)?;
        let is_there = |field: &str| entries.iter().any(|entry| entry.name == field);
        // A field that is meant by an unknown one is misspelt, not missing.
        let mut misspelt = Vec::new();
        for Entry { key, name, .. } in &entries {
            if !fields.iter().any(|field| field.name == *name) {
                let absent = fields.iter().filter(|field| !is_there(field.name));
                misspelt.extend(nearest(name, absent.map(|field| field.name)));
                self.unknown_field(key, name, noun, fields);
            }
        }
        for field in fields.iter().filter(|field| field.required) {
            if !is_there(field.name) && !misspelt.contains(&field.name) {
                let missing = Diagnostic::error(
                    code::MISSING_FIELD,
                    self.place(at),
                    format!("{noun} has no `{}`", field.name),
                )
                .label(format!("needs `{}`", field.name))
                .help(format!("add `{}: {}`", field.name, field.example));
                self.report(missing);
            }
        }
        Some(Object { node, fields })
    }

    fn unknown_field(&mut self, key: &Node, name: &str, noun: &str, fields: &[Field]) {
        let names = || fields.iter().map(|field| field.name);
        let help = match nearest(name, names()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the fields are {}", enumerated(names())),
        };
        let place = self.place(key.span);
        self.report(
            Diagnostic::error(
                code::UNKNOWN_FIELD,
                place,
                format!("{noun} has no field `{name}`"),
            )
            .label("unknown field")
            .help(help),
        );
    }

    /// The entries of a mapping, each key once, with the keys' texts. Reports keys that are twice or no text.
    fn entries<'n>(&mut self, node: &'n Node, noun: &str) -> Option<Vec<Entry<'n>>> {
        let Some(entries) = node.entries() else {
            let message = format!("{noun} must be a mapping, but is {}", node.described());
            let place = self.place(self.headline(node.span));
            self.report(
                Diagnostic::error(code::WRONG_TYPE, place, message)
                    .label(node.described())
                    .help("write `key: value` lines"),
            );
            return None;
        };
        let mut unique = Vec::new();
        let mut seen: BTreeMap<&str, &Node> = BTreeMap::new();
        for (key, value) in entries {
            let Some(name) = key.text() else {
                let place = self.place(self.headline(key.span));
                let message = format!("a key of {noun} must be a text, but is {}", key.described());
                self.report(
                    Diagnostic::error(code::WRONG_TYPE, place, message).help("write a name"),
                );
                continue;
            };
            let Some(earlier) = seen.get(name) else {
                seen.insert(name, key);
                unique.push(Entry { key, name, value });
                continue;
            };
            let duplicate = Diagnostic::error(
                code::DUPLICATE_KEY,
                self.place(key.span),
                format!("`{name}` is there twice"),
            )
            .label("again")
            .also(self.place(earlier.span), "first")
            .help("remove one of the two");
            self.report(duplicate);
        }
        Some(unique)
    }

    /// The entries of a mapping that has any keys, those that are twice only once.
    pub(crate) fn mapping<'n>(
        &mut self,
        given: Given<'n>,
        example: &'n str,
    ) -> Option<Vec<(&'n Node, &'n str, Given<'n>)>> {
        self.something(given)?;
        if given.node.entries().is_none() {
            return self.wrong_type(given, "a mapping");
        }
        let entries = self.entries(given.node, &given.subject.to_string())?;
        if entries.is_empty() {
            return self.nothing_in(given);
        }
        let value = |entry: Entry<'n>| {
            let value = Given {
                node: entry.value,
                subject: Subject::Field(entry.name),
                key: Some(entry.key),
                required: true,
                example,
            };
            (entry.key, entry.name, value)
        };
        Some(entries.into_iter().map(value).collect())
    }

    /// The elements of a list that has any. `field` is its name.
    pub(crate) fn list<'n>(
        &mut self,
        given: Given<'n>,
        field: &'n str,
        example: &'n str,
    ) -> Option<Vec<Given<'n>>> {
        self.something(given)?;
        let Some(elements) = given.node.elements() else {
            return self.wrong_type(given, "a list");
        };
        if elements.is_empty() {
            return self.nothing_in(given);
        }
        Some(
            elements
                .iter()
                .map(|node| Given {
                    node,
                    subject: Subject::Element(field),
                    key: None,
                    required: true,
                    example,
                })
                .collect(),
        )
    }

    /// A text. Reports what YAML takes for something else.
    pub(crate) fn text<'n>(&mut self, given: Given<'n>) -> Option<&'n str> {
        self.something(given)?;
        let Some(scalar) = given.node.scalar() else {
            return self.wrong_type(given, "a text");
        };
        let taken_for = match scalar.meaning() {
            Meaning::Text(text) => return Some(text),
            Meaning::Bool(_) => "a boolean",
            Meaning::Integer(_) | Meaning::Float(_) => "a number",
            Meaning::Null => return None, // `something` has reported it
        };
        let message = format!(
            "{} must be a text, but YAML reads `{}` as {taken_for}",
            given.subject, scalar.text
        );
        let place = self.place(given.node.span);
        self.report(
            Diagnostic::error(code::NEEDS_QUOTES, place, message)
                .label(taken_for)
                .help(format!("quote it: \"{}\"", scalar.text)),
        );
        None
    }

    /// A text with something in it.
    pub(crate) fn words<'n>(&mut self, given: Given<'n>) -> Option<&'n str> {
        let text = self.text(given)?;
        if text.trim().is_empty() {
            return self.nothing_in(given);
        }
        Some(text)
    }

    /// A text with something in it once its variables are expanded.
    pub(crate) fn expanded(&mut self, given: Given<'_>) -> Option<String> {
        let text = self.words(given)?;
        match expand::expand(text, self.env) {
            Ok(expanded) if expanded.trim().is_empty() => {
                let message = format!("{} is empty once its variables are expanded", given.subject);
                let place = self.place(given.node.span);
                self.report(
                    Diagnostic::error(code::EMPTY, place, message)
                        .label("nothing in here")
                        .help("set the variable, or give a default: ${VAR:-default}"),
                );
                None
            }
            Ok(expanded) => Some(expanded),
            Err(wrong) => {
                for bad in wrong {
                    let span = Written::of(given.node, self.file.text())
                        .and_then(|written| written.span(bad.at.start, bad.at.end))
                        .unwrap_or(given.node.span);
                    self.bad_variable(span, &bad.reason);
                }
                None
            }
        }
    }

    fn bad_variable(&mut self, span: Span, reason: &Reason) {
        let (code, message, label, help) = match reason {
            Reason::Undefined(name) => (
                code::UNDEFINED_VARIABLE,
                format!("the variable `{name}` is not set"),
                "not set",
                format!("set {name} in the environment, or give a default: ${{{name}:-default}}"),
            ),
            Reason::Unclosed => (
                code::BAD_VARIABLE,
                "a `${` has no `}`".to_owned(),
                "not closed",
                "write ${VAR}, or $${ for the text `${` itself".to_owned(),
            ),
            Reason::Name(name) => (
                code::BAD_VARIABLE,
                format!("`{name}` is not the name of a variable"),
                "not a variable",
                "write ${VAR} or ${VAR:-default}, or $${ for the text `${` itself".to_owned(),
            ),
        };
        let place = self.place(span);
        self.report(
            Diagnostic::error(code, place, message)
                .label(label)
                .help(help),
        );
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, given: Given<'_>) -> Option<bool> {
        self.something(given)?;
        match given.node.scalar().map(|scalar| scalar.meaning()) {
            Some(Meaning::Bool(value)) => Some(value),
            _ => self.wrong_type(given, "true or false"),
        }
    }

    /// A name; `vintner_core` knows which kind has which characters.
    pub(crate) fn name<N: FromStr<Err = NameError>>(&mut self, given: Given<'_>) -> Option<N> {
        let text = self.text(given)?;
        self.name_of(text, given.node.span)
    }

    /// A name that stands at `span`.
    pub(crate) fn name_of<N: FromStr<Err = NameError>>(
        &mut self,
        text: &str,
        span: Span,
    ) -> Option<N> {
        text.parse()
            .map_err(|error: NameError| {
                let (label, repaired) = match error {
                    NameError::Reserved { .. } => ("reserved", Some(format!("my_{text}"))),
                    _ => ("not a name", repaired(text)),
                };
                let help = match repaired.filter(|name| name.parse::<N>().is_ok()) {
                    Some(name) => format!("`{name}` would do"),
                    None => "write a name like `daily_weather`".to_owned(),
                };
                let place = self.place(span);
                self.report(
                    Diagnostic::error(code::BAD_NAME, place, error.to_string())
                        .label(label)
                        .help(help),
                );
            })
            .ok()
    }

    /// A duration.
    pub(crate) fn duration(&mut self, given: Given<'_>) -> Option<Ttl> {
        self.something(given)?;
        let Some(scalar) = given.node.scalar() else {
            return self.wrong_type(given, "a duration");
        };
        scalar
            .text
            .parse()
            .map_err(|error: vintner_core::TimeError| {
                let help = match scalar.meaning() {
                    Meaning::Integer(number) => {
                        format!("say the unit: {number}s, {number}min, {number}h or {number}d")
                    }
                    _ => format!("write something like `{}`", given.example),
                };
                let place = self.place(given.node.span);
                self.report(
                    Diagnostic::error(code::BAD_DURATION, place, error.to_string())
                        .label("not a duration")
                        .help(help),
                );
            })
            .ok()
    }

    /// A size in bytes.
    pub(crate) fn byte_size(&mut self, given: Given<'_>) -> Option<ByteSize> {
        self.something(given)?;
        let Some(scalar) = given.node.scalar() else {
            return self.wrong_type(given, "a size");
        };
        scalar
            .text
            .parse()
            .map_err(|error: vintner_core::ByteSizeError| {
                let place = self.place(given.node.span);
                self.report(
                    Diagnostic::error(code::BAD_SIZE, place, error.to_string())
                        .label("not a size")
                        .help(format!("write something like `{}`", given.example)),
                );
            })
            .ok()
    }

    /// One word out of several, such as a type.
    pub(crate) fn one_of<T: FromStr>(
        &mut self,
        given: Given<'_>,
        code: &'static str,
        words: &[&str],
    ) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(given)?;
        text.parse()
            .map_err(|error: T::Err| {
                let help = match nearest(text, words.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("write something like `{}`", given.example),
                };
                let place = self.place(given.node.span);
                self.report(
                    Diagnostic::error(code, place, error.to_string())
                        .label("not one of them")
                        .help(help),
                );
            })
            .ok()
    }

    /// Reports a value that is there and is nothing.
    fn something(&mut self, given: Given<'_>) -> Option<()> {
        if !given.node.is_null() {
            return Some(());
        }
        self.nothing_in(given)
    }

    fn nothing_in<T>(&mut self, given: Given<'_>) -> Option<T> {
        let remove = if given.required {
            ""
        } else {
            ", or remove the line"
        };
        let place = self.place(given.span());
        self.report(
            Diagnostic::error(code::EMPTY, place, format!("{} is empty", given.subject))
                .label("nothing in here")
                .help(format!("write something like `{}`{remove}", given.example)),
        );
        None
    }

    pub(crate) fn wrong_type<T>(&mut self, given: Given<'_>, wanted: &str) -> Option<T> {
        let found = given.node.described();
        let message = format!("{} must be {wanted}, but is {found}", given.subject);
        let place = self.place(self.headline(given.span()));
        self.report(
            Diagnostic::error(code::WRONG_TYPE, place, message)
                .label(found)
                .help(format!("write something like `{}`", given.example)),
        );
        None
    }

    /// The first line of a span: a list or mapping over many lines is not underlined whole.
    pub(crate) fn headline(&self, span: Span) -> Span {
        let text = self.file.text().get(span.range()).unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        Span::new(span.start, span.start + first.trim_end().len())
    }
}

/// `a`, `b` and `c`.
pub(crate) fn enumerated<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.pop() {
        None => "none".to_owned(),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} and {last}", quoted.join(", ")),
    }
}

/// A text made into what may be a name: other characters become `_`, and `_` is single and inside.
fn repaired(text: &str) -> Option<String> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let name = words.join("_");
    (!name.is_empty() && name != text).then_some(name)
}
