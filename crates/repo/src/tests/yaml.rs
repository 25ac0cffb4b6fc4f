//! Texts that are not YAML.

use super::report_definitions;

#[test]
fn a_colon_in_a_text_without_quotes() {
    insta::assert_snapshot!(report_definitions("kind: entity\nname: a\ndescription: what: it is\n"), @r"
    repo::yaml_syntax

      error: a `:` does not belong here
       ╭─[weather.yaml:3:18]
     2 │ name: a
     3 │ description: what: it is
       ·                  ┬
       ·                  ╰── here
       ╰────
      help: quote a text that contains `: `; otherwise check the indentation of this line
    ");
}

#[test]
fn a_tab_that_indents() {
    insta::assert_snapshot!(report_definitions("kind: entity\njoin_keys:\n\torigin: string\n"), @r"
    repo::tab

      error: a tab is used for indentation
       ╭─[weather.yaml:3:1]
     2 │ join_keys:
     3 │     origin: string
       · ──┬─
       ·   ╰── here
       ╰────
      help: indent with spaces; YAML does not allow tabs there
    ");
    insta::assert_snapshot!(report_definitions("kind: feature_view\nquery: |\n  SELECT a\n\tFROM b\n"), @r"
    repo::tab

      error: a tab is used for indentation
       ╭─[weather.yaml:4:1]
     3 │   SELECT a
     4 │     FROM b
       · ──┬─
       ·   ╰── here
       ╰────
      help: indent with spaces; YAML does not allow tabs there
    ");
}

#[test]
fn a_variable_in_braces_without_quotes() {
    insta::assert_snapshot!(report_definitions("tags: {url: ${URL}}\n"), @r#"
    repo::yaml_syntax

      error: a `,` or a `}` was expected here
       ╭─[weather.yaml:1:14]
     1 │ tags: {url: ${URL}}
       ·              ┬
       ·              ╰── here
       ╰────
      help: close the brace; quote a text that contains any of `{}[],`, as in url: "${REDIS_URL}"
    "#);
}

#[test]
fn brackets_and_quotes_that_are_not_closed() {
    insta::assert_snapshot!(report_definitions("kind: feature_view\nentities: [airport\nttl: 6h\n"), @r"
    repo::yaml_syntax

      error: a `:` does not belong here
       ╭─[weather.yaml:3:4]
     2 │ entities: [airport
     3 │ ttl: 6h
       ·    ┬
       ·    ╰── here
       ╰────
      help: close the bracket or brace that was opened before; quote a text that contains `: `
    ");
    insta::assert_snapshot!(report_definitions("kind: entity\nname: 'airport\nowner: me\n"), @r"
    repo::yaml_syntax

      error: the quoted text that begins here is not closed, or its next line is not indented
       ╭─[weather.yaml:2:7]
     1 │ kind: entity
     2 │ name: 'airport
       ·       ┬
       ·       ╰── here
     3 │ owner: me
       ╰────
      help: close the quote; write a quote inside single quotes twice
    ");
    insta::assert_snapshot!(report_definitions("kind: entity\ntags: {a: b"), @r#"
    repo::yaml_syntax

      error: a `,` or a `}` was expected here
       ╭─[weather.yaml:2:11]
     1 │ kind: entity
     2 │ tags: {a: b
       ·           ┬
       ·           ╰── here
       ╰────
      help: close the brace; quote a text that contains any of `{}[],`, as in url: "${REDIS_URL}"
    "#);
}

#[test]
fn lines_that_are_indented_wrongly() {
    insta::assert_snapshot!(report_definitions("kind: entity\n name: airport\n"), @r"
    repo::yaml_syntax

      error: a `:` does not belong here
       ╭─[weather.yaml:2:6]
     1 │ kind: entity
     2 │  name: airport
       ·      ┬
       ·      ╰── here
       ╰────
      help: quote a text that contains `: `; otherwise check the indentation of this line
    ");
    insta::assert_snapshot!(report_definitions("kind: source\njoin_keys:\n    a: b\n  c: d\n"), @r"
    repo::yaml_syntax

      error: this line is indented neither like the keys above it nor like a value of one
       ╭─[weather.yaml:4:3]
     3 │     a: b
     4 │   c: d
       ·   ┬
       ·   ╰── here
       ╰────
      help: begin all keys of one mapping in the same column
    ");
}

#[test]
fn characters_that_begin_no_text() {
    insta::assert_snapshot!(report_definitions("kind: entity\nowner: @me\n"), @r"
    repo::yaml_syntax

      error: a text without quotes cannot begin with this character
       ╭─[weather.yaml:2:8]
     1 │ kind: entity
     2 │ owner: @me
       ·        ┬
       ·        ╰── here
       ╰────
      help: quote the text
    ");
    insta::assert_snapshot!(report_definitions("kind: entity\nowner: *me\n"), @r"
    repo::yaml_syntax

      error: this document has no anchor of that name
       ╭─[weather.yaml:2:8]
     1 │ kind: entity
     2 │ owner: *me
       ·        ┬
       ·        ╰── here
       ╰────
      help: set it with `&name` earlier in the same document; quote a text that begins with `*`
    ");
    insta::assert_snapshot!(report_definitions("kind: entity\nowner: \"a\\qb\"\n"), @r#"
    repo::yaml_syntax

      error: the quoted text that begins here has a `\` before a letter that has no such form
       ╭─[weather.yaml:2:8]
     1 │ kind: entity
     2 │ owner: "a\qb"
       ·        ┬
       ·        ╰── here
       ╰────
      help: write `\\`, or use single quotes, in which a `\` is itself
    "#);
}

#[test]
fn reading_goes_on_with_the_next_document() {
    insta::assert_snapshot!(
        report_definitions("kind: entity\nname: [a\n---\nkind: entity\nname: b: c\n---\nkind: entty\nname: d\n"),
        @r"
    repo::yaml_syntax

      error: a `,` or a `]` was expected here
       ╭─[weather.yaml:3:1]
     2 │ name: [a
     3 │ ---
       · ┬
       · ╰── here
     4 │ kind: entity
       ╰────
      help: close the bracket; quote a text that contains any of `{}[],`

    repo::yaml_syntax

      error: a `:` does not belong here
       ╭─[weather.yaml:5:8]
     4 │ kind: entity
     5 │ name: b: c
       ·        ┬
       ·        ╰── here
     6 │ ---
       ╰────
      help: quote a text that contains `: `; otherwise check the indentation of this line

    repo::unknown_kind

      error: there is no kind `entty`
       ╭─[weather.yaml:7:7]
     6 │ ---
     7 │ kind: entty
       ·       ──┬──
       ·         ╰── unknown kind
     8 │ name: d
       ╰────
      help: did you mean `entity`?
    "
    );
}

#[test]
fn what_a_broken_document_may_declare_is_not_called_unknown() {
    insta::assert_snapshot!(
        report_definitions(
            "kind: entity\nname: a: b\n---\nkind: feature_view\nname: v\nentities: [airport]\nsource: s\n"
        ),
        @r"
    repo::yaml_syntax

      error: a `:` does not belong here
       ╭─[weather.yaml:2:8]
     1 │ kind: entity
     2 │ name: a: b
       ·        ┬
       ·        ╰── here
     3 │ ---
       ╰────
      help: quote a text that contains `: `; otherwise check the indentation of this line
    "
    );
}

#[test]
fn nesting_without_end() {
    let deep = "[".repeat(100_000);
    insta::assert_snapshot!(report_definitions(&format!("kind: source\npath: {}", &deep[..70])), @r"
    repo::yaml_syntax

      error: lists and mappings lie too deep in each other
       ╭─[weather.yaml:2:70]
     1 │ kind: source
     2 │ path: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
       ·                                                                      ┬
       ·                                                                      ╰── here
       ╰────
      help: no definition needs more than four levels; close the brackets before this one
    ");
    assert!(report_definitions(&deep).contains("too deep"));
    assert!(report_definitions(&"- ".repeat(100_000)).contains("too deep"));
    assert!(report_definitions(&"{a: ".repeat(100_000)).contains("too deep"));
}

#[test]
fn aliases_stand_for_what_they_name_within_a_bound() {
    let twice = "kind: entity\nname: a\njoin_keys: {id: int64}\ntags: &tags {tier: gold}\n---\n";
    assert_eq!(report_definitions(twice), "");
    let same = "kind: entity\nname: &n a\njoin_keys: {id: int64}\nowner: *n\n";
    assert_eq!(report_definitions(same), "");
    let mut laughs = "a: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for n in 1..12 {
        let alias = format!("*x{}", n - 1);
        laughs += &format!("b{n}: &x{n} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    insta::assert_snapshot!(report_definitions(&laughs), @r"
    repo::yaml_syntax

      error: the aliases of this file stand for too many values
       ╭─[weather.yaml:4:45]
     3 │ b2: &x2 [*x1, *x1, *x1, *x1, *x1, *x1, *x1, *x1, *x1, *x1]
     4 │ b3: &x3 [*x2, *x2, *x2, *x2, *x2, *x2, *x2, *x2, *x2, *x2]
       ·                                             ─┬─
       ·                                              ╰── here
     5 │ b4: &x4 [*x3, *x3, *x3, *x3, *x3, *x3, *x3, *x3, *x3, *x3]
       ╰────
      help: write the values out
    ");
    insta::assert_snapshot!(report_definitions("a: &x [*x]"), @r"
    repo::yaml_syntax

      error: an alias stands inside the very thing that it names
       ╭─[weather.yaml:1:8]
     1 │ a: &x [*x]
       ·        ─┬
       ·         ╰── here
       ╰────
      help: write the value out
    ");
}
