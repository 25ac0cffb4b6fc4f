//! From the text of a file to its documents, each a tree of [`Node`]s.
//!
//! Built on the parser's events and not on its ready-made trees, because those stop at the first duplicate key and at
//! the first broken document, forget how a scalar was written, and recurse without a bound.
//!
//! Not here: what the documents mean.

mod syntax;

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

use crate::{
    node::{Data, Node, Scalar, Style},
    place::Span,
};

pub(crate) use syntax::Problem;

/// How deep lists and mappings may lie in each other. The definitions need four levels; the bound keeps the walks over
/// a tree from using up the stack.
const MAX_DEPTH: usize = 64;

/// How many nodes the aliases of one file may stand for, so that a few lines cannot become millions of nodes.
const MAX_ALIASED: usize = 10_000;

/// How many broken documents of one file are reported. Nobody reads more, and each costs a walk over the rest.
const MAX_PROBLEMS: usize = 100;

/// White space as YAML has it; other spaces of Unicode are letters there.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The documents that could be read, those that say nothing left out.
    pub(crate) documents: Vec<Node>,
    /// What is not YAML.
    pub(crate) problems: Vec<Problem>,
}

/// Reads all documents. After a document that is not YAML, reading goes on with the next one.
pub(crate) fn load(text: &str) -> Loaded {
    let mut loaded = Loaded::default();
    let mut from = 0;
    while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
        let mut stream = Stream::new(rest, from);
        let outcome = stream.read();
        loaded.documents.append(&mut stream.documents);
        let Err(stop) = outcome else { break };
        loaded.problems.push(match stop {
            Stop::Syntax { at, info } => Problem::of(&info, text, at),
            Stop::Problem(problem) => problem,
        });
        match next_document(text, from, stream.reached) {
            Some(next) if loaded.problems.len() < MAX_PROBLEMS => from = next,
            _ => break,
        }
    }
    loaded.documents.retain(|document| !document.is_null());
    loaded
}

/// Where the first document begins that is not before `reached`, and after `from`.
fn next_document(text: &str, from: usize, reached: usize) -> Option<usize> {
    let begins = |at: usize| {
        let rest = text.get(at..).and_then(|line| line.strip_prefix("---"));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    // The line break before `reached` counts too: the parser may stop at the very line that begins the next document.
    let before = text.floor_char_boundary(reached.max(from + 1).saturating_sub(1));
    let breaks = text.get(before..)?.match_indices('\n');
    breaks
        .map(|(end, _)| before + end + 1)
        .find(|start| begins(*start))
}

/// Why a stream could not be read to its end.
enum Stop {
    /// The parser's own words, at a byte of the file.
    Syntax { at: usize, info: String },
    /// What the parser does not mind.
    Problem(Problem),
}

/// One run of the parser over a part of the file.
struct Stream<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    bytes: ByteOffsets,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    aliased: usize,
    documents: Vec<Node>,
    /// The byte of the file that reading has come to.
    reached: usize,
}

/// A list or mapping whose end has not come yet.
struct Open {
    start: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Mapping {
        entries: Vec<(Node, Node)>,
        key: Option<Node>,
    },
}

impl<'t> Stream<'t> {
    fn new(text: &'t str, from: usize) -> Self {
        Self {
            parser: Parser::new_from_str(text),
            text,
            bytes: ByteOffsets::new(text, from),
            open: Vec::new(),
            anchors: BTreeMap::new(),
            aliased: 0,
            documents: Vec::new(),
            reached: from,
        }
    }

    fn read(&mut self) -> Result<(), Stop> {
        while let Some(next) = self.parser.next_event() {
            let (event, span) = next.map_err(|error| {
                let at = self.bytes.of(error.marker().index());
                self.reached = self.reached.max(at);
                Stop::Syntax {
                    at,
                    info: error.info().to_owned(),
                }
            })?;
            let span = Span::new(
                self.bytes.of(span.start.index()),
                self.bytes.of(span.end.index()),
            );
            self.reached = self.reached.max(span.start);
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart(_) => self.anchors.clear(),
                Event::Scalar(text, style, anchor, tag) => {
                    let prefixed = anchor > 0 || tag.is_some();
                    let tag = tag.as_deref().map(|tag| tag.suffix.as_str());
                    let node = self.scalar(text.into_owned(), style, span, prefixed, tag);
                    self.close(node, anchor);
                }
                Event::SequenceStart(anchor, _) => {
                    self.push(span, anchor, Content::List(Vec::new()))?;
                }
                Event::MappingStart(anchor, _) => {
                    let content = Content::Mapping {
                        entries: Vec::new(),
                        key: None,
                    };
                    self.push(span, anchor, content)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(span),
                Event::Alias(anchor) => {
                    let node = self.alias(anchor, span)?;
                    self.close(node, 0);
                }
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn scalar(
        &self,
        text: String,
        style: ScalarStyle,
        span: Span,
        prefixed: bool,
        tag: Option<&str>,
    ) -> Node {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted => Style::SingleQuoted,
            ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
        };
        let span = if style == Style::Plain && text.is_empty() {
            Span::at(span.start)
        } else {
            self.own_text(span, prefixed, style)
        };
        Node {
            span,
            data: Data::Scalar(Scalar {
                text,
                style,
                is_text: tag == Some("str"),
            }),
        }
    }

    /// The span without anchors, tags, the header of a block and white space at the end.
    fn own_text(&self, span: Span, prefixed: bool, style: Style) -> Span {
        let Some(mut text) = self.bytes.slice(self.text, span) else {
            return span;
        };
        if prefixed {
            while text.starts_with(['&', '!']) {
                let end = text.find(WHITE_SPACE).unwrap_or(text.len());
                text = text[end..].trim_start_matches(WHITE_SPACE);
            }
            if style == Style::Block {
                let end = text.find('\n').unwrap_or(text.len());
                text = text[end..].trim_start_matches(WHITE_SPACE);
            }
        }
        let start = span.end - text.len();
        Span::new(start, start + text.trim_end_matches(WHITE_SPACE).len())
    }

    fn push(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Stop::Problem(Problem::too_deep(span)));
        }
        self.open.push(Open {
            start: span.start,
            anchor,
            content,
        });
        Ok(())
    }

    /// A list or mapping ends. Those in brackets or braces end at the closing one; the end of others is known only
    /// from what comes after, so they end where their last element does.
    fn end(&mut self, span: Span) {
        let Some(mut open) = self.open.pop() else {
            return;
        };
        let (data, last) = match open.content {
            Content::List(elements) => {
                let last = elements.last().map(|node| node.span.end);
                // The parser has a list that is not indented begin behind its first `- `.
                if elements
                    .first()
                    .is_some_and(|first| first.span.start == open.start)
                {
                    open.start = self.dash_before(open.start);
                }
                (Data::List(elements), last)
            }
            Content::Mapping { entries, .. } => {
                let last = entries
                    .last()
                    .map(|(key, value)| value.span.end.max(key.span.end));
                (Data::Mapping(entries), last)
            }
        };
        let end = if span.end > span.start {
            span.end
        } else {
            last.unwrap_or(open.start)
        };
        let node = Node {
            span: Span::new(open.start, end),
            data,
        };
        self.close(node, open.anchor);
    }

    /// The `-` before an element that begins at `start`.
    fn dash_before(&self, start: usize) -> usize {
        let before = self
            .bytes
            .slice(self.text, Span::new(self.bytes.from, start));
        let dash = before.and_then(|before| before.trim_end_matches([' ', '\t']).strip_suffix('-'));
        dash.map_or(start, |before| self.bytes.from + before.len())
    }

    /// A node is whole: it becomes a part of the one that is open, or a document.
    fn close(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.documents.push(node),
            Some(Content::List(elements)) => elements.push(node),
            Some(Content::Mapping { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Stop> {
        let node = self
            .anchors
            .get(&anchor)
            .ok_or_else(|| Stop::Problem(Problem::alias_of_itself(span)))?;
        let (nodes, depth) = size(node);
        self.aliased += nodes;
        if self.aliased > MAX_ALIASED || self.open.len() + depth > MAX_DEPTH {
            return Err(Stop::Problem(Problem::too_many_aliases(span)));
        }
        Ok(node.clone())
    }
}

/// How many nodes a tree has, and how deep it is.
fn size(node: &Node) -> (usize, usize) {
    let sum = |(nodes, depth): (usize, usize), (more, other): (usize, usize)| {
        (nodes + more, depth.max(other))
    };
    let (nodes, depth) = match &node.data {
        Data::Scalar(_) => (0, 0),
        Data::List(elements) => elements.iter().map(size).fold((0, 0), sum),
        Data::Mapping(entries) => entries
            .iter()
            .flat_map(|(key, value)| [size(key), size(value)])
            .fold((0, 0), sum),
    };
    (nodes + 1, depth + 1)
}

/// From the parser's counting in characters of its part to bytes of the file.
struct ByteOffsets {
    from: usize,
    length: usize,
    /// The byte of each character; none when every character is one byte.
    starts: Option<Vec<usize>>,
}

impl ByteOffsets {
    fn new(text: &str, from: usize) -> Self {
        Self {
            from,
            length: text.len(),
            starts: (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect()),
        }
    }

    /// The byte of the file at which the character begins; the end of the text for those past it.
    fn of(&self, character: usize) -> usize {
        let inside = match &self.starts {
            None => character.min(self.length),
            Some(starts) => starts.get(character).copied().unwrap_or(self.length),
        };
        self.from + inside
    }

    /// The text of a span of the file.
    fn slice<'t>(&self, text: &'t str, span: Span) -> Option<&'t str> {
        text.get(span.start.checked_sub(self.from)?..span.end.checked_sub(self.from)?)
    }
}

#[cfg(test)]
mod tests;
