//! What a push answers with, for reads that must see its rows.
//!
//! As text it is `vt1.<project>.<view>@<version>.<table version>.<life>.<check>`: printable, and to be taken as a whole.
//! The life is that of the online store in which the rows were acknowledged there, as a hash, or `-` when they were not.
//! The check is a hash of what is before it, so that a token that was cut off is not one.

use std::{fmt, str::FromStr};

use vintner_core::{ProjectName, ViewId};

/// What the text begins with: the form of the token.
const FORM: &str = "vt1";

/// Names rows that were written: a read that is given it sees them, or fails.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WriteToken {
    project: ProjectName,
    view: ViewId,
    table_version: u64,
    life: Option<String>,
}

/// A text is no [`WriteToken`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a token that a push has given; give it as it was printed, all of it")]
pub struct TokenError(String);

impl WriteToken {
    /// Rows that are in a version of a view's table, and in the online store in a life of it.
    pub fn new(project: ProjectName, view: ViewId, table_version: u64, life: Option<&str>) -> Self {
        Self {
            project,
            view,
            table_version,
            life: life.filter(|life| !life.is_empty()).map(hash),
        }
    }

    /// The project that the rows are of.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    /// The view version that the rows are of.
    pub fn view(&self) -> &ViewId {
        &self.view
    }

    /// The version of the view's table from which on they are there.
    pub fn table_version(&self) -> u64 {
        self.table_version
    }

    /// Whether the rows were put into an online store in this life of it. A life without a name is none.
    pub(crate) fn is_of_life(&self, life: &str) -> bool {
        !life.is_empty() && self.life.as_deref() == Some(hash(life).as_str())
    }
}

impl fmt::Display for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            project,
            view,
            table_version,
            life,
        } = self;
        let life = life.as_deref().unwrap_or("-");
        let told = format!("{FORM}.{project}.{view}.{table_version}.{life}");
        write!(f, "{told}.{}", hash(&told))
    }
}

impl FromStr for WriteToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let read = || {
            let (told, check) = text.rsplit_once('.')?;
            let mut parts = told.split('.');
            let (form, project, view) = (parts.next()?, parts.next()?, parts.next()?);
            let (version, life) = (parts.next()?, parts.next()?);
            let is_whole = form == FORM && check == hash(told) && parts.next().is_none();
            Some(Self {
                project: project.parse().ok()?,
                view: view.parse().ok()?,
                table_version: version.parse().ok()?,
                life: (life != "-").then(|| life.to_owned()),
            })
            .filter(|_| is_whole)
        };
        read().ok_or_else(|| TokenError(text.to_owned()))
    }
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(life: Option<&str>) -> WriteToken {
        let (project, view) = ("flights".parse().unwrap(), "weather@2".parse().unwrap());
        WriteToken::new(project, view, 17, life)
    }

    #[test]
    fn a_token_is_read_back_whole_or_not_at_all() {
        for life in [None, Some(""), Some("7c2e")] {
            let text = token(life).to_string();
            assert!(text.starts_with("vt1.flights.weather@2.17."), "{text}");
            assert_eq!(text.parse(), Ok(token(life)));
            for end in 0..text.len() {
                assert!(
                    text[..end].parse::<WriteToken>().is_err(),
                    "{}",
                    &text[..end]
                );
            }
            let other = text.replace(".17.", ".16.");
            assert!(other.parse::<WriteToken>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_life_is_told_from_others_when_it_has_a_name() {
        assert!(token(Some("a")).is_of_life("a"));
        assert!(!token(Some("a")).is_of_life("b"));
        assert!(!token(Some("a")).is_of_life(""));
        assert!(!token(Some("")).is_of_life(""));
        assert!(!token(None).is_of_life("a"));
    }
}
