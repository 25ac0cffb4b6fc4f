//! Where nodes stand.

use super::*;

#[test]
fn a_node_stands_where_its_own_text_is() {
    let text = "a: ü b # x\r\nb: &y 'c''d'\r\ne: !!str |\r\n  f\r\n  g\r\n\r\nh: {i: [j, k]}\r\nl:\r\n- m\r\n- n: o\r\np:\r\nq: *y\r\n";
    let loaded = load(text);
    assert_eq!(loaded.problems, []);
    let document = &loaded.documents[0];
    for (key, want) in [
        ("a", "ü b"),
        ("b", "'c''d'"),
        ("e", "f\r\n  g"),
        ("h", "{i: [j, k]}"),
        ("l", "- m\r\n- n: o"),
        ("p", ""),
        ("q", "'c''d'"), // an alias stands where what it names does
    ] {
        let span = document.get(key).unwrap().span;
        assert_eq!(&text[span.range()], want, "{key}");
    }
}

#[test]
fn reading_goes_on_after_a_document_that_is_broken() {
    let loaded = load("é: 1\n---\na: [\n---\nb: ü: c\n--- # d\ne: é\n---x\n");
    assert_eq!(loaded.documents.len(), 1);
    assert_eq!(loaded.problems.len(), 3);
    let text = "a: b: c\n---\nü: d\n";
    let loaded = load(text);
    let (key, value) = &loaded.documents[0].entries().unwrap()[0];
    assert_eq!(
        (&text[key.span.range()], &text[value.span.range()]),
        ("ü", "d")
    );
}
